# SPDX-License-Identifier: Apache-2.0
"""Turns the raw lines of compare.sh into a table, JSON and a gnuplot script.

A raw line is "round who bytes iterations median_us p99_us min_us errors"; for
the two programs ending in -bw, median_us holds GB/s.
"""
import argparse
import collections
import json
import os
import statistics
import subprocess
import sys

COLUMNS = ("gradpush", "allreduce", "mpi-tcp", "gloo", "mpi-shm")
# ps-lite (the fork of BytePS, ZeroMQ van), its own benchmark, 1 worker and 1
# server on a 2-core x86-64 machine, measured once; its server does not add.
PS_LITE = {65536: 0.03, 1048576: 0.34, 4194304: 0.53}


def read(path):
    """{(who, bytes): [[median, p99, min] per round]}, and errors by who."""
    runs = collections.defaultdict(list)
    errors = collections.Counter()
    with open(path) as lines:
        for line in lines:
            _, who, size, _, median, p99, least, wrong = line.split()
            runs[who, int(size)].append(
                (float(median), float(p99), float(least)))
            errors[who] += int(wrong)
    return runs, errors


def summary(rounds):
    medians = [r[0] for r in rounds]
    return {"median_us": statistics.median(medians),
            "p99_us": statistics.median(r[1] for r in rounds),
            "min_us": min(r[2] for r in rounds),
            "rounds_us": medians}


def sizes_of(runs):
    return sorted({size for who, size in runs
                   if who in COLUMNS and size > 0})


def build(runs, errors):
    results = []
    for size in sizes_of(runs):
        row = {"bytes": size}
        for who in COLUMNS:
            if (who, size) in runs:
                row[who] = summary(runs[who, size])
                row[who]["algbw_GBps"] = size / row[who]["median_us"] / 1e3
        others = [row[w]["median_us"] for w in ("mpi-tcp", "gloo") if w in row]
        for who, name in (("gradpush", "ratio"),
                          ("allreduce", "allreduce_ratio")):
            if who in row and others:
                row[name] = min(others) / row[who]["median_us"]
        results.append(row)
    streams = {}
    for (who, _), rounds in runs.items():
        if who.endswith("-bw"):
            streams[who[:-3]] = {
                "GBps": statistics.median(r[0] for r in rounds),
                "rounds_GBps": [r[0] for r in rounds]}
    if len(streams) == 2:
        streams["ratio"] = (streams["gradpush"]["GBps"] /
                            streams["iperf3"]["GBps"])
    return {"results": results, "stream": streams,
            "errors": dict(errors)}


def cell(row, who):
    if who not in row:
        return "%10s %7s" % ("-", "-")
    return "%10.1f %7.2f" % (row[who]["median_us"], row[who]["algbw_GBps"])


def print_table(data, rounds):
    print("# fp32 sum over 2 processes, dense; median of %d rounds' medians"
          % rounds)
    print("# GB/s = bytes / time; ratio = the faster of Open MPI tcp and Gloo"
          " / gradpush, over 1 is faster: of push+pull, of all-reduce")
    print("#%9s %18s %18s %18s %18s %18s %6s %6s %7s"
          % ("bytes", "push+pull tcp", "all-reduce tcp", "Open MPI tcp",
             "Gloo tcp", "Open MPI shm", "ratio", "ratio", "#wrong"))
    print("#%9s" % "" + " %10s %7s" % ("us", "GB/s") * len(COLUMNS))
    for row in data["results"]:
        ratios = ["%6.2f" % row[name] if name in row else "     -"
                  for name in ("ratio", "allreduce_ratio")]
        print("%10d %s %s %7d" % (
            row["bytes"], " ".join(cell(row, w) for w in COLUMNS),
            " ".join(ratios),
            data["errors"].get("gradpush", 0) +
            data["errors"].get("allreduce", 0)))
    stream = data["stream"]
    if stream:
        print("# one stream, 1 MiB messages, GB/s: "
              + ", ".join("%s %.2f" % (who, stream[who]["GBps"])
                          for who in ("gradpush", "iperf3") if who in stream)
              + (", ratio %.2f" % stream["ratio"] if "ratio" in stream else ""))
    print("# for reference, not measured here: ps-lite push+pull, 1 worker, 1"
          " server, 1 MiB: %.2f GB/s" % PS_LITE[1048576])
    print("# (BytePS fork, ZeroMQ van, its own benchmark, a 2-core x86-64"
          " virtual machine)")


def environment(gradpush):
    done = subprocess.run([gradpush, "info", "--env", "--json", "-"],
                          capture_output=True, text=True, check=False)
    try:
        facts = json.loads(done.stdout)["environment"]
    except (ValueError, KeyError):
        return {}
    facts.pop("settings", None)
    return facts


PLOT = """set terminal svg size 760,420 font "sans-serif,12" background "white"
set output '{svg}'
set title "fp32 sum over 2 processes on one machine, dense"
set logscale x 2
set xlabel "bytes"
set ylabel "GB/s (bytes / median time)"
set xtics ({tics})
set yrange [0:*]
set grid ytics lc rgb "#dddddd"
set key top left
set datafile missing "-"
plot {plots}
"""


def write_plot(data, out):
    names = {"gradpush": "gradpush push+pull, tcp",
             "allreduce": "gradpush all-reduce, tcp", "mpi-tcp": "Open MPI tcp",
             "gloo": "Gloo tcp", "mpi-shm": "Open MPI shared memory"}
    table = os.path.join(out, "compare.dat")
    with open(table, "w") as file:
        for row in data["results"]:
            file.write(" ".join([str(row["bytes"])] + [
                "%.4f" % row[w]["algbw_GBps"] if w in row else "-"
                for w in COLUMNS]) + "\n")
    labels = {1 << 10: "KiB", 1 << 20: "MiB", 1 << 30: "GiB"}
    tics = []
    for row in data["results"]:
        unit = max((u for u in labels if u <= row["bytes"]), default=1)
        tics.append('"%g %s" %d' % (row["bytes"] / unit,
                                    labels.get(unit, "B"), row["bytes"]))
    plots = ['"%s" using 1:%d with linespoints lw %d title "%s"'
             % (table, 2 + i, 3 if w in ("gradpush", "allreduce") else 1, names[w])
             for i, w in enumerate(COLUMNS)]
    with open(os.path.join(out, "compare.gnuplot"), "w") as file:
        file.write(PLOT.format(svg=os.path.join(out, "compare.svg"),
                               tics=", ".join(tics), plots=", ".join(plots)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("raw")
    parser.add_argument("out")
    parser.add_argument("--gradpush", required=True)
    parser.add_argument("--rounds", type=int, required=True)
    options = parser.parse_args()
    runs, errors = read(options.raw)
    data = {"schema": "gradpush.compare/1",
            "config": {"rounds": options.rounds, "processes": 2},
            "environment": environment(options.gradpush)}
    data.update(build(runs, errors))
    print_table(data, options.rounds)
    write_plot(data, options.out)
    with open(os.path.join(options.out, "compare.json"), "w") as file:
        json.dump(data, file, indent=2)
        file.write("\n")
    sys.exit(1 if any(errors.values()) else 0)


if __name__ == "__main__":
    main()
