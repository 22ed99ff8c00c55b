# SPDX-License-Identifier: Apache-2.0
"""Turns what cluster.sh collected into a table, JSON and a gnuplot script.

Rates are GB/s (1e9 bytes), latencies microseconds; both are medians over
rounds. The line rate is the port's own word; the ceiling is derived from it
and the headers of each packet, as docs/cluster.md explains.
"""
import argparse
import collections
import glob
import json
import os
import re
import statistics

# Bytes beside the payload of each packet.
ROCE = 14 + 4 + 20 + 20 + 8 + 12 + 4  # Ethernet, FCS, gap, IPv4, UDP, BTH, ICRC
INFINIBAND = 8 + 12 + 4 + 2  # LRH, BTH, ICRC, VCRC


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def rounds_of(raw, pattern):
    """(path, parts of its name) of each file of a pattern, by round."""
    for path in sorted(glob.glob(os.path.join(raw, pattern))):
        yield path, os.path.splitext(os.path.basename(path))[0].rsplit("-", 1)


def add_gradpush(raw, values, errors):
    for path, (name, _) in rounds_of(raw, "gradpush-*.json"):
        _, transport, test = name.split("-")
        for row in load(path)["results"]:
            value = (row["algbw_GBps"] if test == "bw" else row["median_us"])
            values["gradpush " + transport, test, row["bytes"]].append(value)
            errors[transport] += row["errors"]


def add_perftest(raw, values):
    for program, test, column in (("ib_write_bw", "bw", 3),
                                  ("ib_write_lat", "lat", 4),
                                  ("ib_send_lat", "lat", 4)):
        for path, _ in rounds_of(raw, program + "-*.txt"):
            with open(path, encoding="utf-8") as lines:
                for line in lines:
                    cells = line.split()
                    value = float(cells[column])
                    if test == "bw":
                        value /= 8  # Gbit/s
                    values[program, test, int(cells[0])].append(value)


def add_nccl(raw, values):
    for program in ("sendrecv_perf", "all_reduce_perf"):
        for path, _ in rounds_of(raw, program + "-*.txt"):
            with open(path, encoding="utf-8") as lines:
                for line in lines:
                    cells = line.split()
                    if len(cells) >= 8 and cells[0].isdigit():
                        values[program, "bw", int(cells[0])].append(
                            float(cells[6]))


def iperf(raw):
    rates = [load(path)["end"]["sum_received"]["bits_per_second"] / 8e9
             for path, _ in rounds_of(raw, "iperf3-*.json")]
    return statistics.median(rates) if rates else None


def values_of(document, name):
    return {c["subject"]: c["values"] for c in document["checks"]
            if c["name"] == name}


def line_of(document, address):
    """What the port with this address can do, in theory."""
    for label, found in values_of(document, "ports.address").items():
        if found.get("address") != address:
            continue
        link = values_of(document, "ports.link").get(label, {})
        mtu = values_of(document, "ports.mtu").get(label, {}).get("active_mtu")
        if link.get("software"):
            return None  # its rate is a word, not a line's
        rate = re.match(r"[0-9.]+", link.get("rate", ""))
        if not rate or not mtu:
            return None
        headers = INFINIBAND if link.get("kind") == "InfiniBand" else ROCE
        gbits = float(rate.group())
        return {"port": label, "kind": link.get("kind"), "rate_Gbps": gbits,
                "mtu": mtu, "header_bytes": headers,
                "ceiling_GBps": gbits / 8 * mtu / (mtu + headers)}
    return None


def counters_that_grew(before, after):
    grew = {}
    old = values_of(before, "counters.port")
    for label, now in values_of(after, "counters.port").items():
        rows = {name: value - old.get(label, {}).get(name, 0)
                for name, value in now.items()
                if isinstance(value, int)}
        grew[label] = {name: value for name, value in rows.items() if value}
    return grew


def faults(document):
    return [{key: check[key] for key in ("name", "subject", "status", "reason",
                                         "fix")}
            for check in document["checks"]
            if check["status"] in ("warn", "fail")]


def ratios(median):
    """gradpush beside perftest: more is better, 1 is the same."""
    rows = []
    for (who, test, size), value in sorted(median.items()):
        other = median.get(("ib_write_" + test, test, size))
        if who == "gradpush verbs" and other:
            rows.append({"test": test, "bytes": size,
                         "ratio": value / other if test == "bw"
                         else other / value})
    return rows


def build(args):
    values, errors = collections.defaultdict(list), collections.Counter()
    add_gradpush(args.raw, values, errors)
    add_perftest(args.raw, values)
    add_nccl(args.raw, values)
    median = {key: statistics.median(all) for key, all in values.items()}
    machines = {}
    for side in ("server", "client"):
        before, after = (load(os.path.join(
            args.raw, f"doctor-{side}-{when}.json")) for when in
            ("before", "after"))
        machines[side] = {"host": getattr(args, side),
                          "environment": before["environment"],
                          "doctor": before["summary"], "faults": faults(before),
                          "counters_grew": counters_that_grew(before, after)}
        if side == "server":
            line = line_of(before, args.address)
    results = [{"tool": who, "test": test, "bytes": size,
                "unit": "GBps" if test == "bw" else "us",
                "median": median[who, test, size],
                "rounds": values[who, test, size]}
               for who, test, size in sorted(median)]
    return {"schema": "gradpush.cluster/1",
            "config": {"launcher": args.launcher, "address": args.address,
                       "rounds": args.rounds, "qps": args.qps},
            "machines": machines, "line": line, "iperf3_GBps": iperf(args.raw),
            "results": results, "ratios": ratios(median),
            "errors": dict(errors)}


def series(data, test):
    tools = []
    table = collections.defaultdict(dict)
    for row in data["results"]:
        if row["test"] != test:
            continue
        if row["tool"] not in tools:
            tools.append(row["tool"])
        table[row["bytes"]][row["tool"]] = row["median"]
    tools.sort(key=lambda t: (not t.startswith("gradpush"), t))
    return tools, dict(sorted(table.items()))


def print_tables(data):
    for test, title, form in (("bw", "GB/s, one direction", "%16.4g"),
                              ("lat", "us, half a round trip", "%16.2f")):
        tools, table = series(data, test)
        if not tools:
            continue
        print("# %s; median of %d rounds" % (title, data["config"]["rounds"]))
        print("#%10s" % "bytes" + "".join("%16s" % t for t in tools))
        for size, row in table.items():
            print("%11d" % size + "".join(
                form % row[t] if t in row else "%16s" % "-" for t in tools))
    if data["line"]:
        print("# line: %(port)s, %(kind)s, %(rate_Gbps)g Gbit/s, packets of "
              "%(mtu)d bytes: at most %(ceiling_GBps).3f GB/s of payload "
              "(derived)" % data["line"])
    if data["iperf3_GBps"]:
        print("# iperf3: %.3f GB/s" % data["iperf3_GBps"])
    for row in data["ratios"]:
        if row["bytes"] in (64, 65536, 1048576):
            bw = row["test"] == "bw"
            print("# %s at %d bytes: %.3f of perftest's %s"
                  % (row["test"], row["bytes"],
                     row["ratio"] if bw else 1 / row["ratio"],
                     "rate" if bw else "time"))
    for side, machine in data["machines"].items():
        print("# %s %s: doctor says %s" % (side, machine["host"],
                                           machine["doctor"]["status"]))
        for label, grew in machine["counters_grew"].items():
            for name, value in grew.items():
                print("# %s %s: %s grew by %d" % (side, label, name, value))
    wrong = sum(data["errors"].values())
    print("# Out of bounds values : %d %s" % (wrong, "FAILED" if wrong else
                                              "OK"))


PLOT = """set terminal svg size 760,420 font "sans-serif,12" background "white"
set output '{svg}'
set title "{title}"
set logscale x 2
{scale}
set xlabel "bytes"
set ylabel "{unit}"
set xtics ({tics})
set grid ytics lc rgb "#dddddd"
set key {key}
set datafile missing "-"
plot {plots}
"""


def label(size):
    for unit, name in ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")):
        if size >= unit:
            return "%g%s" % (size / unit, name)
    return str(size)


def plot(data, out, test):
    tools, table = series(data, test)
    path = os.path.join(out, f"cluster-{test}.dat")
    with open(path, "w", encoding="utf-8") as file:
        for size, row in table.items():
            file.write(" ".join([str(size)] + [
                "%.6g" % row[t] if t in row else "-" for t in tools]) + "\n")
    plots = ['"%s" using 1:%d with linespoints lw %d title "%s"'
             % (path, 2 + i, 3 if t.startswith("gradpush") else 1,
                t.replace("_", "\\\\_"))
             for i, t in enumerate(tools)]
    if test == "bw" and data["line"]:
        plots.append('%g with lines dt 2 lc rgb "#888888" title '
                     '"line less headers"' % data["line"]["ceiling_GBps"])
    places = [size for i, size in enumerate(table) if i % 2 == 0]
    return PLOT.format(
        svg=os.path.join(out, f"cluster-{test}.svg"),
        title="%s to %s" % (data["machines"]["client"]["host"],
                            data["machines"]["server"]["host"]),
        scale="set yrange [0:*]" if test == "bw" else "set logscale y",
        unit="GB/s" if test == "bw" else "us, half a round trip",
        key="top left", plots=", ".join(plots),
        tics=", ".join('"%s" %d' % (label(s), s) for s in places))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("raw")
    parser.add_argument("out")
    for name in ("launcher", "server", "client", "address"):
        parser.add_argument("--" + name, required=True)
    for name in ("rounds", "qps"):
        parser.add_argument("--" + name, type=int, required=True)
    args = parser.parse_args()
    data = build(args)
    print_tables(data)
    with open(os.path.join(args.out, "cluster.json"), "w",
              encoding="utf-8") as file:
        json.dump(data, file, indent=1)
        file.write("\n")
    with open(os.path.join(args.out, "cluster.gnuplot"), "w",
              encoding="utf-8") as file:
        for test in ("bw", "lat"):
            if series(data, test)[0]:
                file.write(plot(data, args.out, test))


if __name__ == "__main__":
    main()
