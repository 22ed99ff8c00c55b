# SPDX-License-Identifier: Apache-2.0
"""Kills, sends away and adds workers of a training job; bench/elastic.sh.

The workers are this program's children, and the servers too: so it alone says
who is there. How far each worker is, is in its file (--steps-file).
"""
import argparse
import ctypes
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

TICK = 0.002
STEPS = 2  # after an event, by all who are left; one may have been under way
ASKED = 16  # steps between two questions for members, where workers do not step together
SETTLE = 3  # epochs after the last event
MARGIN = 0.01
PR_SET_PDEATHSIG = 1


class Trouble(Exception):
    """Something hung or failed."""


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def tail(path):
    try:
        with open(path) as file:
            return file.read()[-1500:]
    except OSError:
        return ""


class Job:
    def __init__(self, options, mode, folder, epochs):
        self.options = options
        self.mode = mode
        self.folder = folder
        self.workers = {}  # rank -> process
        self.formers = []  # (rank, process, the signal that it should die of)
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith("GRADPUSH_")}
        self.env.update(GRADPUSH_SIZE=str(options.workers),
                        GRADPUSH_SHARDS=str(options.shards),
                        GRADPUSH_JOB=f"elastic-{os.getpid()}",
                        GRADPUSH_TIMEOUT=f"{options.patience:g}s",
                        GRADPUSH_ELASTIC="on",
                        GRADPUSH_MIN_WORKERS=str(options.min))
        self.command = [os.path.join(options.bin, "gradpush-train"),
                        "--workers", str(options.workers),
                        "--min-workers", str(options.min),
                        "--mode", mode, "--epochs", str(epochs),
                        "--steps-file", self.path("steps")]
        if options.data:
            self.command += ["--data", options.data]
        self.command += options.trainer
        self.serve()

    def path(self, name):
        return os.path.join(self.folder, name)

    def serve(self):
        """Starts the servers, which say where they are."""
        command = [os.path.join(self.options.bin, "gradpush"), "server",
                   "-s", str(self.options.shards), "-l", "127.0.0.1:0"]
        env = dict(self.env, GRADPUSH_SERVERS="127.0.0.1:1",
                   GRADPUSH_STORE_HOST="off")
        with open(self.path("server"), "w") as err:
            self.server = subprocess.Popen(
                command, env=env, stdout=subprocess.PIPE, stderr=err,
                text=True, preexec_fn=die_with_parent)
        lines = [self.server.stdout.readline().split()
                 for _ in range(self.options.shards)]
        if not all(len(line) == 2 for line in lines):
            raise Trouble("servers do not start: " + tail(self.path("server")))
        self.env["GRADPUSH_SERVERS"] = ",".join(line[1] for line in lines)

    def steps(self, rank):
        try:
            with open(self.path(f"steps.{rank}")) as file:
                return int(file.read() or 0)
        except OSError:
            return 0

    def come(self, rank):
        if os.path.exists(self.path(f"steps.{rank}")):
            os.unlink(self.path(f"steps.{rank}"))
        with open(self.path(f"out.{rank}"), "a") as out, \
                open(self.path(f"err.{rank}"), "a") as err:
            self.workers[rank] = subprocess.Popen(
                self.command, env=dict(self.env, GRADPUSH_RANK=str(rank)),
                stdout=out, stderr=err, preexec_fn=die_with_parent)

    def go(self, rank, number):
        process = self.workers.pop(rank)
        process.send_signal(number)
        self.formers.append((rank, process, number))
        if number == signal.SIGKILL:
            process.wait()

    def check(self):
        """Nobody has ended unasked, or of anything else."""
        for rank, process in self.workers.items():
            if process.poll() is not None:
                raise Trouble(f"worker {rank} ended with {process.returncode}: "
                              + tail(self.path(f"err.{rank}")))
        for rank, process, number in list(self.formers):
            if process.poll() is None:
                continue
            self.formers.remove((rank, process, number))
            if process.returncode != -number:
                raise Trouble(f"worker {rank} ended with {process.returncode} "
                              f"after signal {number}: "
                              + tail(self.path(f"err.{rank}")))
        if self.server.poll() is not None:
            raise Trouble("servers ended: " + tail(self.path("server")))

    def await_that(self, condition, what):
        end = time.monotonic() + self.options.patience
        while True:
            self.check()
            if condition():
                return
            if time.monotonic() > end:
                raise Trouble(f"hang: {what} for {self.options.patience:g} s; "
                              f"steps {[self.steps(r) for r in self.workers]}"
                              f" of workers {list(self.workers)}")
            time.sleep(TICK)

    def await_progress(self, began, what):
        """Until all who are there have made steps since `began`."""
        self.await_that(
            lambda: all(self.steps(r) >= began.get(r, 0) + STEPS
                        for r in self.workers), what)

    def snapshot(self):
        return {r: self.steps(r) for r in self.workers}

    def epochs(self):
        """[(epoch, accuracy)] that rank 0 has printed."""
        rows = []
        with open(self.path("out.0")) as file:
            for line in file:
                words = line.split()
                if len(words) == 7 and words[0].isdigit() and words[4] == "%":
                    rows.append((int(words[0]), float(words[3]) / 100))
        return rows

    def show(self):
        """What everybody has said last."""
        for name in ["server"] + [f"err.{r}"
                                  for r in range(self.options.workers)]:
            print(f"--- {name}\n{tail(self.path(name))}", file=sys.stderr)

    def close(self):
        for process in list(self.workers.values()) + \
                [former[1] for former in self.formers] + [self.server]:
            if process.poll() is None:
                process.kill()
            process.wait()


class Churn:
    def __init__(self, job, options):
        self.job = job
        self.options = options
        self.random = random.Random(options.seed)
        self.count = {"kills": 0, "leaves": 0, "joins": 0}
        self.recovery = []
        self.joining = []
        self.stops = 0
        self.rounds = 0

    def choose(self):
        present = sorted(self.job.workers)
        missing = [r for r in range(self.options.workers) if r not in present]
        least = max(1, self.options.min - 1)
        if len(present) < self.options.min:
            return "joins", self.random.choice(missing)
        if not missing or (len(present) > least and self.random.random() < .6):
            what = "kills" if self.random.random() < .65 else "leaves"
            return what, self.random.choice(present)
        return "joins", self.random.choice(missing)

    def stop(self):
        """Fewer than --min: nobody goes on for long. Who steps with the others
        ends the step under way, others ask for them now and then."""
        self.stops += 1
        ahead = 2 if self.job.mode == "sync" else ASKED + 2
        began, before = self.job.snapshot(), None
        while before != self.job.snapshot():
            before = self.job.snapshot()
            if any(before[r] > began[r] + ahead for r in before):
                raise Trouble("steps with fewer workers than --min: "
                              f"{began}, then {before}")
            time.sleep(.2)

    def round(self):
        what, rank = self.choose()
        start = time.monotonic()
        if what == "joins":
            self.job.come(rank)
        else:
            self.job.go(rank, signal.SIGKILL if what == "kills"
                        else signal.SIGTERM)
        began = self.job.snapshot()
        self.count[what] += 1
        self.rounds += 1
        if len(self.job.workers) < self.options.min:
            self.job.await_that(lambda: not self.job.formers,
                                "one does not leave")
            self.stop()
            return
        self.job.await_progress(began, f"no steps after one of {what}")
        spent = time.monotonic() - start
        # Its rank can be another's when it is gone.
        self.job.await_that(lambda: not self.job.formers, "one does not leave")
        (self.joining if what == "joins" else self.recovery).append(spent)
        time.sleep(self.random.uniform(0, .15))

    def run(self):
        end = time.monotonic() + self.options.limit
        for rank in range(self.options.workers):
            self.job.come(rank)
        self.job.await_progress({}, "no first steps")
        while self.rounds < self.options.rounds and time.monotonic() < end:
            self.round()
        for rank in range(self.options.workers):
            if rank not in self.job.workers:
                self.job.come(rank)
        self.job.await_progress(self.job.snapshot(), "not all have come")
        return self.settle()

    def settle(self):
        """Some epochs with all of them, and everybody leaves."""
        last = max([row[0] for row in self.job.epochs()], default=0) + SETTLE
        last = max(last, self.options.epochs)
        result = (0, 0.0)
        while result[0] < last:
            had = len(self.job.epochs())
            self.job.await_that(lambda: len(self.job.epochs()) > had,
                                "no epoch ends")
            result = self.job.epochs()[-1]
        for rank in list(self.job.workers):
            self.job.go(rank, signal.SIGTERM)
        end = time.monotonic() + self.options.patience
        for rank, process, number in self.job.formers:
            process.wait(max(.1, end - time.monotonic()))
            if process.returncode != -number:
                raise Trouble(f"worker {rank} left with {process.returncode}")
        if self.job.server.wait(max(.1, end - time.monotonic())) != 0:
            raise Trouble("servers: " + tail(self.job.path("server")))
        return result


def run_calm(options, mode, folder, epochs):
    job = Job(options, mode, folder, epochs)
    try:
        for rank in range(options.workers):
            job.come(rank)
        for rank, process in job.workers.items():
            if process.wait(options.limit + 60) != 0:
                raise Trouble(f"undisturbed: worker {rank} ended with "
                              f"{process.returncode}: "
                              + tail(job.path(f"err.{rank}")))
        return job.epochs()[-1]
    finally:
        job.close()


def measure(options, mode):
    result = {"mode": mode, "workers": options.workers, "min": options.min,
              "seed": options.seed, "options": " ".join(options.trainer)}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        churn = None
        job = Job(options, mode, folder, 1000000)
        churn = Churn(job, options)
        trouble = None
        epoch, accuracy = 0, 0.0
        try:
            epoch, accuracy = churn.run()
        except (Trouble, subprocess.TimeoutExpired) as error:
            trouble = str(error)
            job.show()
        finally:
            job.close()
    result.update(rounds=churn.rounds, **churn.count, stops=churn.stops)
    hangs = int(trouble is not None and ("hang" in trouble or
                                         "timed out" in trouble))
    result.update(hangs=hangs, failures=int(trouble is not None) - hangs)
    if trouble:
        result["trouble"] = trouble
        return result
    if churn.rounds < options.rounds:
        result["trouble"] = f"{options.limit:g} s were too few (--limit)"
    with tempfile.TemporaryDirectory() as folder:
        calm = run_calm(options, mode, folder, epoch)
    result.update(epochs=epoch, accuracy=accuracy, undisturbed=calm[1])
    for name, values in (("recovery", churn.recovery), ("join", churn.joining)):
        if values:
            result[f"worst_{name}_s"] = round(max(values), 3)
            result[f"median_{name}_s"] = round(statistics.median(values), 3)
    result["seconds"] = round(time.monotonic() - started, 1)
    return result


def is_good(result):
    return "trouble" not in result and \
        abs(result["accuracy"] - result["undisturbed"]) <= MARGIN


def write_table(path, results):
    columns = ["mode", "rounds", "kills", "leaves", "joins", "hangs",
               "failures", "epochs", "accuracy", "undisturbed",
               "median_recovery_s", "worst_recovery_s", "median_join_s",
               "worst_join_s"]
    with open(path, "a") as file:
        file.write("| " + " | ".join(c.replace("_", " ") for c in columns)
                   + " |\n|" + "---|" * len(columns) + "\n")
        for result in results:
            file.write("| " + " | ".join(
                f"{result[c]:.4g}" if isinstance(result.get(c), float)
                else str(result.get(c, "-")) for c in columns) + " |\n")


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--data")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--min", type=int, default=1)
    parser.add_argument("--modes", default="sync")
    parser.add_argument("--patience", type=float, default=60)
    parser.add_argument("--limit", type=float, default=600)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--table")
    parser.add_argument("trainer", nargs="*")
    options = parser.parse_args()
    if options.workers < 2 or not 1 <= options.min <= options.workers:
        parser.error("at least 2 workers, and --min not more than those")
    return options


def main():
    options = parse()
    results = []
    for mode in options.modes.split():
        results.append(measure(options, mode))
        print(json.dumps(results[-1]), flush=True)
    if options.table:
        write_table(options.table, results)
    return 0 if all(is_good(result) for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
