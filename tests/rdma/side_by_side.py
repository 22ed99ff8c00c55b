# SPDX-License-Identifier: Apache-2.0
"""side_by_side.py ROWS JSON TRANSPORT ROUNDS - medians of what the case
measured, as figures and as a document. A row is: what, bytes, who, value. A
machine that others use too may halve the speed of either side for a round: the
best of all rounds is said as well."""
import collections
import json
import statistics
import sys

source, target, transport, rounds = sys.argv[1:]
values = collections.defaultdict(list)
with open(source, encoding="utf-8") as file:
    for line in file:
        what, size, who, value = line.split()
        values[what, int(size), who].append(float(value))
median = {key: statistics.median(all) for key, all in values.items()}

results = []
for what, size, who in sorted(median):
    if who != "gradpush":
        continue
    ours = median[what, size, who]
    # Each way of a push+pull is compared with the rate of WRITEs.
    other = median.get((what, size, "perftest"))
    if what == "pushpull":
        other = median.get(("bw", size, "perftest"))
    # A machine may not be able to do in both directions what it does in one.
    both = median.get(("both", size, "perftest"))
    unit = "us" if what == "lat" else "MBps"
    best = min if what == "lat" else max
    other_rounds = values.get(("bw" if what == "pushpull" else what, size,
                               "perftest"))
    best_ratio = (best(values[what, size, who]) / best(other_rounds)
                  if other_rounds else None)
    result = {"what": what, "bytes": size, "unit": unit, "gradpush": ours,
              "perftest": other, "ratio": ours / other if other else None,
              "ratio_of_best": best_ratio,
              "rounds_gradpush": values[what, size, who],
              "rounds_perftest": other_rounds}
    results.append(result)
    print(f"figure: {what} {size} B: {transport} {ours:.4g} {unit}, "
          f"perftest {other:.4g}, ratio {result['ratio']:.3f}, "
          f"of the best rounds {best_ratio:.3f}")
    if what == "pushpull" and both:
        result["perftest_both_ways"] = both
        print(f"figure: {what} {size} B: perftest {both:.4g} {unit} each way "
              f"at once, ratio {ours / both:.3f}")
with open(target, "w", encoding="utf-8") as file:
    json.dump({"schema": "gradpush.lab/1", "transport": transport,
               "rounds": int(rounds), "results": results}, file, indent=2)
    file.write("\n")
