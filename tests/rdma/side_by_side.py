# SPDX-License-Identifier: Apache-2.0
"""side_by_side.py ROWS JSON TRANSPORT ROUNDS - what the case measured in pairs,
as figures and as a document. A row is: what, bytes, pair, who, value. A machine
that others use too may halve the speed of either side for seconds: the two of a
pair ran within seconds of each other, so the median of the pairs' ratios tells
most. Medians of each side, quartiles, and the best of all are said as well."""
import collections
import json
import statistics
import sys

source, target, transport, rounds = sys.argv[1:]
values = collections.defaultdict(dict)
with open(source, encoding="utf-8") as file:
    for line in file:
        what, size, pair, who, value = line.split()
        values[what, int(size), who][int(pair)] = float(value)


def quartiles(numbers):
    """What the middle half lies between."""
    if len(numbers) < 2:
        return [numbers[0], numbers[0]]
    parts = statistics.quantiles(numbers, n=4, method="inclusive")
    return [parts[0], parts[2]]


def compare(ours, other, best):
    """Of each pair the ratio, and the ratios of medians and of the best."""
    ratios = [ours[pair] / other[pair] for pair in sorted(ours) if pair in other]
    return {"pairs": len(ratios), "ratio_of_pairs": statistics.median(ratios),
            "ratio_quartiles": quartiles(ratios),
            "ratio": (statistics.median(ours.values()) /
                      statistics.median(other.values())),
            "ratio_of_best": best(ours.values()) / best(other.values())}


def spread(numbers):
    """Median and quartiles, to be read."""
    low, high = quartiles(numbers)
    return f"{statistics.median(numbers):.4g} ({low:.4g} to {high:.4g})"


results = []
for what, size, who in sorted(values):
    if who != "gradpush":
        continue
    ours = values[what, size, who]
    # Each way of a push+pull is compared with the rate of WRITEs.
    is_both = what.startswith("pushpull")
    other = values["bw" if is_both else what, size, "perftest"]
    if not ours.keys() & other.keys():
        print(f"figure: {what} {size} B: none, perftest told nothing to compare with")
        continue
    # A machine may not be able to do in both directions what it does in one.
    both = values["both", size, "perftest"]
    unit = "us" if what == "lat" else "MBps"
    result = {"what": what, "bytes": size, "unit": unit,
              "gradpush": statistics.median(ours.values()),
              "perftest": statistics.median(other.values()),
              **compare(ours, other, min if what == "lat" else max),
              "quartiles_gradpush": quartiles(list(ours.values())),
              "quartiles_perftest": quartiles(list(other.values())),
              "rounds_gradpush": list(ours.values()),
              "rounds_perftest": list(other.values())}
    results.append(result)
    low, high = result["ratio_quartiles"]
    print(f"figure: {what} {size} B: {transport} {spread(list(ours.values()))} "
          f"{unit}, perftest {spread(list(other.values()))}")
    print(f"figure: {what} {size} B: ratio {result['ratio_of_pairs']:.3f} "
          f"({low:.3f} to {high:.3f}) of {result['pairs']} pairs, of medians "
          f"{result['ratio']:.3f}, of the best {result['ratio_of_best']:.3f}")
    if is_both and ours.keys() & both.keys():
        result["both_ways"] = compare(ours, both, max)
        result["perftest_both_ways"] = statistics.median(both.values())
        print(f"figure: {what} {size} B: ib_write_bw -b "
              f"{spread(list(both.values()))} {unit} each way at once, ratio "
              f"{result['both_ways']['ratio_of_pairs']:.3f}")
with open(target, "w", encoding="utf-8") as file:
    json.dump({"schema": "gradpush.lab/1", "transport": transport,
               "rounds": int(rounds), "results": results}, file, indent=2)
    file.write("\n")
