# SPDX-License-Identifier: Apache-2.0
"""Turns what codecs.sh measured into codecs.json, codecs.md and plots."""
import argparse
import glob
import json
import os
import shlex
import statistics
import textwrap

LINKS = (0.1, 1, 10, 25, 100, 400)  # Gbit/s
KINDS = (("cast", ("none", "fp16", "bf16", "fp8")),
         ("integers", ("q8", "q4", "q2", "intsum", "thc")),
         ("block floats", ("mx", "nvfp4")),
         ("step x RMS", ("uq",)),
         ("stochastic", ("qsgd", "natural", "terngrad")),
         ("sign", ("sign", "onebit", "vote")),
         ("rotation", ("drive", "eden", "hadamard")),
         ("sparse", ("topk", "randk", "threshold", "dgc")),
         ("low rank", ("powersgd",)))


def kind_of(codec):
    for kind, names in KINDS:
        if codec.startswith(names):
            return kind
    return "other"


def number(value, form="%.3g"):
    return "-" if value is None else form % value


def seconds(row, job):
    return row[job + "_median_us"] / 1e6


def speedup(row, gbps, baseline=32, overlapped=True):
    """Step time of a dense message by the pipeline's: one direction."""
    rate = gbps * 1e9
    encode, decode = seconds(row, "encode"), seconds(row, "decode_add")
    wire = row["bits_per_element"] * row["count"] / rate
    dense = baseline * row["count"] / rate
    if overlapped:
        return dense / max(encode, wire, decode)
    return dense / (encode + wire + decode)


def read(folder):
    data = {}
    for path in sorted(glob.glob(os.path.join(folder, "raw", "*.json"))):
        with open(path) as file:
            data[os.path.basename(path)[:-5]] = json.load(file)
    return data


def table(lines, head, rows):
    lines.append("| " + " | ".join(head) + " |")
    lines.append("|" + "---|" * len(head))
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines.append("")


def share(row, job):
    value = row.get(job + "_share")
    return "-" if value is None else "%.0f %%" % (100 * value)


def costs(lines, rows):
    table(lines,
          ("pipeline", "bits/element", "encode", "decode", "decode_add",
           "fold of 8", "memcpy", "of memcpy: enc / dec / add / fold",
           "break-even Gbit/s"),
          [("`%s`" % r["codec"], "%.4g" % r["bits_per_element"],
            "%.1f" % r["encode_GBps"], "%.1f" % r["decode_GBps"],
            "%.1f" % r["decode_add_GBps"], number(r.get("fold_GBps"), "%.1f"),
            "%.1f" % r["roofline_GBps"],
            " / ".join(share(r, j)
                       for j in ("encode", "decode", "decode_add", "fold")),
            "%.3g" % r["break_even_overlapped_Gbps"]) for r in rows])


def by_codec(document):
    return {r["codec"]: r for r in document["results"]} if document else {}


def losses(lines, data):
    gauss = by_codec(data.get("gauss"))
    others = [by_codec(data.get(n)) for n in ("laplace", "real")]
    rows = []
    for codec, r in gauss.items():
        cells = []
        for other in others:
            o = other.get(codec)
            cells += ([number(o["bits_per_element"], "%.4g"),
                       number(o["nmse"])] if o else ["-", "-"])
        rows.append(["`%s`" % codec, "%.4g" % r["bits_per_element"],
                     number(r["nmse"]), number(r["nmse_bound"]),
                     number(r["cosine"], "%.4f"),
                     number(r["average_nmse"])] + cells)
    table(lines, ("pipeline", "bits/element", "NMSE, Gaussian", "its bound",
                  "cosine", "NMSE of the average of 8", "bits, Laplace",
                  "NMSE", "bits, real gradient", "NMSE"), rows)


def feedback(lines, data):
    made = by_codec(data.get("gauss-feedback"))
    real = by_codec(data.get("real-feedback"))
    rows = []
    for codec in list(made) + [c for c in real if c not in made]:
        cells = []
        for r in (made.get(codec), real.get(codec)):
            cells += ([number(r["bits_per_element"], "%.4g"),
                       number(r["nmse"]), number(r["residual_ratio"])]
                      if r else ["-"] * 3)
        r = made.get(codec, {})
        gain = (r["feedback_separate_median_us"] / r["encode_median_us"]
                if "feedback_separate_median_us" in r else None)
        rows.append(["`%s`" % codec] + cells + [
            number(r.get("encode_GBps"), "%.1f"), share(r, "encode"),
            number(gain, "%.1f x")])
    table(lines, ("pipeline", "bits, Gaussian", "NMSE", "\\|e\\|/\\|g\\|",
                  "bits, real", "NMSE", "\\|e\\|/\\|g\\|", "encode GB/s",
                  "of memcpy", "against four passes"), rows)


def links(lines, rows):
    table(lines, ["pipeline"] + ["%g" % g for g in LINKS] +
          ["%g, to bf16" % g for g in (10, 100)],
          [["`%s`" % r["codec"]] +
           ["%.2f" % speedup(r, g) for g in LINKS] +
           ["%.2f" % speedup(r, g, 16) for g in (10, 100)] for r in rows])


def torch_topk(folder):
    """Medians over rounds, or None when there is no PyTorch."""
    try:
        with open(os.path.join(folder, "torch")) as file:
            theirs = [json.loads(line) for line in file]
        ours = []
        for path in sorted(glob.glob(os.path.join(folder, "topk.*"))):
            with open(path) as file:
                ours.append(json.load(file)["results"][0])
    except OSError:
        return None
    us = statistics.median(r["encode_median_us"] for r in ours)
    them = statistics.median(r["median_us"] for r in theirs)
    return {"count": theirs[0]["count"], "torch": theirs[0]["torch"],
            "torch_us": them, "topk_us": us, "ratio": them / us,
            "topk_GBps": theirs[0]["count"] * 4 / us / 1e3}


def wrapped(lines):
    """Prose in lines of 80 columns; tables and pictures as they are."""
    out = []
    for line in lines:
        prose = len(line) > 80 and not line.startswith(("|", "!"))
        out += textwrap.wrap(line, 80, break_on_hyphens=False) if prose \
            else [line]
    return "\n".join(out)


def write_markdown(data, topk, options):
    first = next(iter(data.values()))
    env = first["environment"]
    lines = [
        "# Codecs", "",
        "`%s` on %s, %d cores, %s, %s; %s. GB/s are fp32 bytes in or out, "
        "medians; GB is 1e9 bytes. What the columns mean: docs/bench.md." % (
            options.command.strip(), env["cpu"], env["cores"], env["kernel"],
            env["compiler"], env["date"][:10]), ""]
    if "gauss" in data:
        rows = data["gauss"]["results"]
        lines += ["## Costs", "",
                  "%d elements (Gaussian), one thread." % rows[0]["count"], ""]
        costs(lines, rows)
    if topk:
        lines += ["torch.topk (PyTorch %s, one thread) of 1 %% of %d "
                  "magnitudes takes %.2f ms; `topk:0.01`, packed, %.3f ms "
                  "(%.1f GB/s): %.0f x." % (
                      topk["torch"], topk["count"], topk["torch_us"] / 1e3,
                      topk["topk_us"] / 1e3, topk["topk_GBps"],
                      topk["ratio"]), ""]
    if "gauss" in data:
        if "sizes" in data:
            lines += ["![throughput](throughput.png)", ""]
        lines += ["## Losses", "",
                  "Real: the last gradient of layer0.weight of gradpush-train "
                  "on %s." % options.data, ""]
        losses(lines, data)
        lines += ["![rate and distortion](rate-distortion.png)", ""]
    if "gauss-feedback" in data or "real-feedback" in data:
        lines += ["## Under error feedback", "",
                  "Steady state. NMSE is of gradient plus residual. Against "
                  "four passes: time of add, encode, decode, subtract by that "
                  "of the fused encode.", ""]
        feedback(lines, data)
    if "gauss" in data:
        lines += ["## Speed-up against the link", "",
                  "Time of a dense fp32 message by the pipeline's, stages "
                  "overlapped, one core each to encode and to decode; columns "
                  "are Gbit/s. Below 1 it does not pay.", ""]
        links(lines, data["gauss"]["results"])
        lines += ["![speed-up](speedup.png)", ""]
    with open(os.path.join(options.folder, "codecs.md"), "w") as file:
        file.write(wrapped(lines))


HEAD = """set terminal pngcairo size {width},{height} font "sans-serif,11"
set output '{folder}/{name}.png'
set grid lc rgb "#dddddd"
set key outside right top
"""


def blocks(folder, name, groups):
    """One gnuplot index per group of (x, y, label) points."""
    path = os.path.join(folder, name + ".dat")
    with open(path, "w") as file:
        for points in groups:
            for x, y, label in points:
                file.write('%.8g %.8g "%s"\n' % (x, y, label))
            file.write("\n\n")
    return path


def plot_distortion(data, folder):
    rows = [r for r in data["gauss"]["results"] if r["nmse"]]
    kinds = sorted({kind_of(r["codec"]) for r in rows})
    groups = [[(r["bits_per_element"], r["nmse"], r["codec"]) for r in rows
               if kind_of(r["codec"]) == k] for k in kinds]
    path = blocks(folder, "rate-distortion", groups)
    text = HEAD.format(width=1100, height=760, folder=folder,
                       name="rate-distortion")
    text += """set logscale xy
set xrange [0.02:40]
set yrange [1e-8:30]
set title "Gaussian input, no error feedback; headers counted"
set xlabel "bits per element"
set ylabel "NMSE"
set format y "10^{%%L}"
plot 2**(-2*x) with lines lc rgb "black" dt 2 title "R(D): 2^{-2R}", \\
%s, '%s' using 1:2:3 with labels left offset 0.6,0.3 font ",7" notitle
""" % (", \\\n".join("'%s' index %d using 1:2 with points pt %d ps 1.3 title "
                     "'%s'" % (path, i, 4 + i, k)
                     for i, k in enumerate(kinds)), path)
    return text


def plot_throughput(data, folder):
    rows = data["sizes"]["results"]
    codecs = list(dict.fromkeys(r["codec"] for r in rows))
    text = HEAD.format(width=1100, height=900, folder=folder,
                       name="throughput")
    text += """set multiplot layout 2,1
set logscale x 2
set xlabel "bytes of fp32"
set ylabel "GB/s of fp32"
set yrange [0:*]
set format x "%.0b %BB"
"""
    for job in ("encode", "decode_add"):
        groups = [[(r["bytes"], r[job + "_GBps"], "") for r in rows
                   if r["codec"] == c] for c in codecs]
        roof = {}
        for r in rows:
            roof[r["bytes"]] = max(roof.get(r["bytes"], 0),
                                   r["roofline_GBps"] / 2)
        groups.append([(x, y, "") for x, y in sorted(roof.items())])
        path = blocks(folder, "throughput-" + job, groups)
        text += 'set title "%s; the roofline is memcpy"\nplot %s\n' % (
            job.replace("_", "\\\\_"), ", \\\n".join(
                ["'%s' index %d using 1:2 with linespoints title '%s'"
                 % (path, i, c) for i, c in enumerate(codecs)] +
                ["'%s' index %d using 1:2 with lines lw 3 lc rgb 'black' title "
                 "'memcpy'" % (path, len(codecs))]))
    return text + "unset multiplot\n"


def plot_speedup(data, folder):
    wanted = ("bf16", "q8", "q4", "q4:block=32", "sign", "uq:1", "eden:1",
              "topk:0.01+q8+rice", "topk:0.001+q8+rice", "powersgd:4",
              "q8+lz4")
    rows = [r for r in data["gauss"]["results"] if r["codec"] in wanted]
    grid = [0.05 * 1.25 ** i for i in range(46)]
    groups = [[(g, speedup(r, g), "") for g in grid] for r in rows]
    path = blocks(folder, "speedup", groups)
    text = HEAD.format(width=1100, height=640, folder=folder, name="speedup")
    text += """set logscale xy
set title "one core to encode, one to decode, overlapped; 1 is dense fp32"
set xlabel "link, Gbit/s"
set ylabel "speed-up of a step"
set xtics (0.1, 1, 10, 25, 100, 400)
set arrow from graph 0, first 1 to graph 1, first 1 nohead dt 2
"""
    return text + "plot " + ", \\\n".join(
        "'%s' index %d using 1:2 with lines lw 2 title '%s'"
        % (path, i, r["codec"]) for i, r in enumerate(rows)) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--command", required=True)
    parser.add_argument("--data", required=True)
    options = parser.parse_args()
    data = read(options.folder)
    if not data:
        raise SystemExit("codecs.py: nothing was measured")
    topk = torch_topk(options.folder)
    write_markdown(data, topk, options)
    for document in data.values():
        document["environment"].pop("settings", None)
        document["config"]["input"] = [
            os.path.basename(i) for i in document["config"]["input"]]
    with open(os.path.join(options.folder, "codecs.json"), "w") as file:
        json.dump({"schema": "gradpush.codecs/1",
                   "command": shlex.split(options.command), "torch_topk": topk,
                   "runs": data}, file, indent=1)
        file.write("\n")
    plots = {"rate-distortion": (plot_distortion, "gauss"),
             "throughput": (plot_throughput, "sizes"),
             "speedup": (plot_speedup, "gauss")}
    for name, (make, needs) in plots.items():
        if needs in data:
            with open(os.path.join(options.folder, name + ".gnuplot"),
                      "w") as file:
                file.write(make(data, options.folder))


if __name__ == "__main__":
    main()
