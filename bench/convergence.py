# SPDX-License-Identifier: Apache-2.0
"""Turns the trainer's reports into convergence.json, convergence.md, plots."""
import argparse
import json
import os
import shlex
import statistics
import textwrap


def read_lines(folder):
    """[(label, push, pull, more)], the first is the baseline."""
    with open(os.path.join(folder, "lines")) as file:
        words = [line.split() for line in file]
    return [(w[0], w[1], w[2], " ".join(w[3:])) for w in words]


def read_runs(folder, label):
    """{seed: report}, without runs that failed."""
    runs = {}
    for name in sorted(os.listdir(os.path.join(folder, "raw"))):
        if not name.endswith(".json") or name.rsplit(".", 2)[0] != label:
            continue
        with open(os.path.join(folder, "raw", name)) as file:
            text = file.read()
        if text:
            runs[int(name.rsplit(".", 2)[1])] = json.loads(text)
    return runs


def failures(folder, label, runs):
    names = [n for n in os.listdir(os.path.join(folder, "raw"))
             if n.endswith(".txt") and n.rsplit(".", 2)[0] == label]
    return len(names) - len(runs)


def deviation(values):
    return statistics.stdev(values) if len(values) > 1 else 0.0


def summarize(folder, line, baseline):
    label, push, pull, more = line
    runs = read_runs(folder, label)
    row = {"label": label, "codec": push, "pull_codec": pull, "options": more,
           "failed": failures(folder, label, runs)}
    if not runs:
        return row
    final = {s: 100 * r["final"]["test_accuracy"] for s, r in runs.items()}
    first = next(iter(runs.values()))
    per_step = first["final"]["steps"] * first["config"]["workers"]
    elements = first["config"]["parameters"]
    paired = [final[s] - baseline[s] for s in final if s in baseline]
    row.update({
        "seeds": sorted(final),
        "accuracy": [final[s] for s in sorted(final)],
        "mean": statistics.mean(final.values()),
        "std": deviation(list(final.values())),
        "min": min(final.values()), "max": max(final.values()),
        "against_first": statistics.mean(paired) if paired else None,
        "against_first_std": deviation(paired) if paired else None,
        "train_loss": statistics.mean(
            r["epochs"][-1]["train_loss"] for r in runs.values()),
        "push_bytes_per_step": first["final"]["bytes_pushed"] / per_step,
        "pull_bytes_per_step": first["final"]["bytes_pulled"] / per_step,
        "push_bits_per_element":
            8 * first["final"]["bytes_pushed"] / per_step / elements,
        "seconds": statistics.mean(
            sum(e["seconds"] for e in r["epochs"]) for r in runs.values()),
        "curves": [[{"epoch": e["epoch"], "seconds": e["seconds"],
                     "train_loss": e["train_loss"],
                     "test_accuracy": e["test_accuracy"]}
                    for e in runs[s]["epochs"]] for s in sorted(runs)]})
    return row


def curve(row, epochs_total):
    """[(bytes both ways of a worker, seconds, accuracy)], means over seeds."""
    points, seconds = [], 0
    steps = row["steps"] / epochs_total
    per_step = row["push_bytes_per_step"] + row["pull_bytes_per_step"]
    for i in range(epochs_total):
        seconds += statistics.mean(c[i]["seconds"] for c in row["curves"])
        points.append((per_step * steps * (i + 1), seconds, 100 *
                       statistics.mean(c[i]["test_accuracy"]
                                       for c in row["curves"])))
    return points


def reach(row, target, epochs_total):
    """Seconds and bytes until the mean accuracy is `target`, or None."""
    for size, seconds, accuracy in curve(row, epochs_total):
        if accuracy >= target:
            return seconds, size
    return None


def cell(row, key, form):
    return form % row[key] if row.get(key) is not None else "-"


def wrapped(lines):
    """Prose in lines of 80 columns; tables and pictures as they are."""
    out = []
    for line in lines:
        prose = len(line) > 80 and not line.startswith(("|", "!"))
        out += textwrap.wrap(line, 80, break_on_hyphens=False) if prose \
            else [line]
    return "\n".join(out)


def write_markdown(data, options, path):
    rows, config = data["results"], data["config"]
    env = data["environment"]
    target = rows[0]["mean"] - 0.5
    lines = [
        "# Training with codecs", "",
        "`%s` on %s, %d cores, %s; %s. %d workers x batch %d, %d shards, "
        "hidden %s, %s, lr %g, %d epochs, %d parameters, link: %s. Seeds are "
        "paired: \"to %s\" is the mean difference seed by seed." % (
            shlex.join(data["command"]), env["cpu"], env["cpus"], env["system"],
            env["time"][:10], config["workers"], config["batch"],
            config["shards"], ",".join(map(str, config["hidden"])),
            config["optimizer"], config["lr"], config["epochs"],
            config["parameters"],
            "this machine" if options.link == "none" else
            options.link + " per host and direction", rows[0]["label"]), "",
        "Bytes are per step and worker, headers included; bits are of pushes, "
        "per parameter, the dense biases included. Seconds are of all steps, "
        "without evaluation. Last column: seconds and megabytes per worker, "
        "both ways, at the end of the first epoch with at least %.2f %%." %
        target, "",
        "| run | push | pull | accuracy %% | std | min .. max | to %s | "
        "train loss | pushed B | bits | pulled B | seconds | to %.2f %% |" % (
            rows[0]["label"], target),
        "|" + "---|" * 13]
    for r in rows:
        got = reach(r, target, config["epochs"]) if "mean" in r else None
        failed = ", %d failed" % r["failed"] if r["failed"] else ""
        lines.append("| %s%s | `%s` %s | `%s` | %s |" % (
            r["label"], failed, r["codec"], r["options"], r["pull_codec"],
            " | ".join((
                cell(r, "mean", "%.2f"), cell(r, "std", "%.2f"),
                "%.2f .. %.2f" % (r["min"], r["max"]) if "min" in r else "-",
                cell(r, "against_first", "%+.2f"),
                cell(r, "train_loss", "%.4f"),
                cell(r, "push_bytes_per_step", "%.0f"),
                cell(r, "push_bits_per_element", "%.3f"),
                cell(r, "pull_bytes_per_step", "%.0f"),
                cell(r, "seconds", "%.2f"),
                "%.1f s, %.1f MB" % (got[0], got[1] / 1e6) if got else "-"))))
    lines += ["", "![accuracy against bytes](accuracy-bytes.png)", "",
              "![accuracy against time](accuracy-time.png)", ""]
    with open(path, "w") as file:
        file.write(wrapped(lines))


PLOT = """set terminal pngcairo size 1100,680 font "sans-serif,11"
set output '{folder}/{name}.png'
set grid lc rgb "#dddddd"
set key outside right top
set ylabel "test accuracy, %, mean of the seeds"
set xlabel "{label}"
set yrange [{low}:*]
{more}
plot {plots}
"""


def write_plots(data, options):
    rows = [r for r in data["results"] if "mean" in r]
    epochs = data["config"]["epochs"]
    table = os.path.join(options.folder, "curves.dat")
    with open(table, "w") as file:
        for r in rows:
            for size, seconds, accuracy in curve(r, epochs):
                file.write("%.8g %.6g %.6g\n" % (size / 1e6, seconds,
                                                 accuracy))
            file.write("\n\n")
    low = max(rows[0]["mean"] - 8, 0)
    for name, column, label, more in (
            ("accuracy-bytes", 1, "MB of a worker, pushed and pulled",
             "set logscale x"),
            ("accuracy-time", 2, "seconds of steps", "set xrange [0:*]")):
        plots = ", \\\n".join(
            "'%s' index %d using %d:3 with linespoints lw %d dt %d title '%s'"
            % (table, i, column, 3 if i == 0 else 1, 1 + i // 8, r["label"])
            for i, r in enumerate(rows))
        with open(os.path.join(options.folder, name + ".gnuplot"),
                  "w") as file:
            file.write(PLOT.format(folder=options.folder, name=name,
                                   label=label, more=more, low=low,
                                   plots=plots))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--command", required=True)
    parser.add_argument("--link", required=True)
    options = parser.parse_args()
    lines = read_lines(options.folder)
    first = read_runs(options.folder, lines[0][0])
    if not first:
        raise SystemExit("convergence.py: the runs of '%s' failed" %
                         lines[0][0])
    baseline = {s: 100 * r["final"]["test_accuracy"] for s, r in first.items()}
    report = next(iter(first.values()))
    data = {"schema": "gradpush.convergence/1", "command": shlex.split(options.command),
            "link": options.link, "config": report["config"],
            "environment": report["environment"], "results": []}
    data["config"].pop("logdir", None)
    data["config"]["data"] = os.path.basename(
        data["config"]["data"].rstrip("/"))
    data["environment"].pop("host", None)
    for line in lines:
        row = summarize(options.folder, line, baseline)
        row["steps"] = report["final"]["steps"]
        data["results"].append(row)
    with open(os.path.join(options.folder, "convergence.json"), "w") as file:
        json.dump(data, file, indent=1)
        file.write("\n")
    write_markdown(data, options,
                   os.path.join(options.folder, "convergence.md"))
    write_plots(data, options)


if __name__ == "__main__":
    main()
