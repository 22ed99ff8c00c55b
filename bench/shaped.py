# SPDX-License-Identifier: Apache-2.0
"""Turns what shaped_bench.sh measured into shaped.json and shaped.md."""
import argparse
import collections
import json
import os
import shlex
import statistics
import textwrap

UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}


def bits_per_second(rate):
    return float(rate[:-4]) * UNITS[rate[-4:]]


def read(folder):
    """{(rate, number): [document]}, and the first of all."""
    runs = collections.defaultdict(list)
    for name in sorted(os.listdir(os.path.join(folder, "raw"))):
        rate, number, _ = name.split(".", 2)
        with open(os.path.join(folder, "raw", name)) as file:
            runs[rate, int(number)].append(json.load(file))
    return runs


def is_pushpull(document):
    return document["what"] == "pushpull"


def hosts(document):
    config = document["config"]
    if not is_pushpull(document):
        return "%d workers on hosts (network namespaces) of their own" % \
            config["workers"]
    if config["colocated"]:
        return "%d workers with a shard in each, on hosts (network " \
            "namespaces) of their own" % config["workers"]
    return "%d workers and %d shards, each on a host (network namespace) of " \
        "its own" % (config["workers"], config["shards"])


def summarize(rate, documents, dense):
    config = documents[0]["config"]
    rows = [d["results"][0] for d in documents]
    median = statistics.median(r["median_us"] for r in rows)
    wire = rows[0]["wire_bytes"]
    # A direction of a worker's link, were it never idle. Where the worker hosts
    # a shard, its own part stays at home, and the others' results leave too.
    # An all-reduce counts what leaves.
    if not is_pushpull(documents[0]):
        crosses = wire
    elif config["colocated"]:
        crosses = wire * (config["workers"] - 1) / config["workers"]
    else:
        crosses = wire / 2
    least = crosses * 8 / bits_per_second(rate) * 1e6
    return {"rate": rate, "codec": config["codec"],
            "pull_codec": config.get("pull_codec", config["codec"]),
            "bytes": rows[0]["bytes"],
            "median_us": median, "min_us": min(r["min_us"] for r in rows),
            "p99_us": max(r["p99_us"] for r in rows),
            "rounds_us": [r["median_us"] for r in rows],
            "wire_bytes": wire, "link_use": least / median,
            "speedup": dense / median if dense else 1.0,
            "errors": sum(r["errors"] for r in rows)}


def wrapped(lines):
    """Prose in lines of 80 columns; tables and pictures as they are."""
    out = []
    for line in lines:
        prose = len(line) > 80 and not line.startswith(("|", "!"))
        out += textwrap.wrap(line, 80, break_on_hyphens=False) if prose \
            else [line]
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--command", required=True)
    parser.add_argument("--rates", required=True)
    options = parser.parse_args()
    runs = read(options.folder)
    if not runs:
        raise SystemExit("shaped.py: nothing was measured")
    results = []
    for rate in options.rates.split():
        dense = None
        for number in sorted(n for r, n in runs if r == rate):
            row = summarize(rate, runs[rate, number], dense)
            dense = dense or row["median_us"]
            results.append(row)
    first = next(iter(runs.values()))[0]
    env, config = first["environment"], first["config"]
    env.pop("settings", None)
    config.pop("netns", None)
    data = {"schema": "gradpush.shaped/1", "command": shlex.split(options.command),
            "config": config, "environment": env, "results": results}
    with open(os.path.join(options.folder, "shaped.json"), "w") as file:
        json.dump(data, file, indent=1)
        file.write("\n")
    lines = [
        "# %s over shaped links" % (
            "push+pull" if is_pushpull(first) else "all-reduce"), "",
        "`%s` on %s, %d cores, %s; %s. %s; the rate is per host and "
        "direction. Median of the rounds' medians." % (
            options.command, env["cpu"], env["cores"], env["kernel"],
            env["date"][:10],
            hosts(first)), "",
        "| link | push | pull | MiB | ms | least ms | wire B | of the link | "
        "against dense | errors |", "|" + "---|" * 10]
    for r in results:
        lines.append("| %s | `%s` | `%s` | %g | %.2f | %.2f | %d | %.0f %% | "
                     "%.2f x | %d |" % (
                         r["rate"], r["codec"], r["pull_codec"],
                         r["bytes"] / 2 ** 20, r["median_us"] / 1e3,
                         r["min_us"] / 1e3, r["wire_bytes"],
                         100 * r["link_use"], r["speedup"], r["errors"]))
    with open(os.path.join(options.folder, "shaped.md"), "w") as file:
        file.write(wrapped(lines) + "\n")


if __name__ == "__main__":
    main()
