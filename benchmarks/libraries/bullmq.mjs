// BullMQ on Node, with the interface of program.py, for reference.

import { deflateSync } from "node:zlib";
import { Queue, Worker } from "bullmq";

const [what, jobs, ...rest] = process.argv.slice(2);
const size = Number(jobs);
const options = {};
for (let i = 0; i < rest.length; i++) {
  if (rest[i].startsWith("--")) {
    options[rest[i].slice(2)] = rest[i] === "--times" ? true : rest[++i];
  }
}
const url = new URL(options.url);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const CALLERS = 32;
const BATCH = 1000;

const say = (message) => new Promise((done) => process.stdout.write(JSON.stringify(message) + "\n", done));
const now = () => Number(process.hrtime.bigint()) / 1e9;
const cpu = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const jobOptions = { removeOnComplete: true };

async function schedule() {
  const queue = new Queue("bench", { connection });
  await queue.waitUntilReady();
  const first = Number(options.first ?? 0);
  const times = [];
  const began = now();
  const used = cpu();
  let next = first;
  const caller = async () => {
    while (next < first + size) {
      await queue.add("job", { n: next++ }, jobOptions);
    }
  };
  if (options.how === "batch") {
    for (let n = first; n < first + size; n += BATCH) {
      const count = Math.min(BATCH, first + size - n);
      await queue.addBulk(
        Array.from({ length: count }, (_, i) => ({ name: "job", data: { n: n + i }, opts: jobOptions })),
      );
    }
  } else if (options.how === "paced") {
    for (let n = first; n < first + size; n++) {
      await sleep(5 + Math.random() * 15);
      times.push(now());
      await queue.add("job", { n }, jobOptions);
    }
  } else {
    await Promise.all(Array.from({ length: options.how === "sequential" ? 1 : CALLERS }, caller));
  }
  await say({ seconds: now() - began, cpu: cpu() - used, times, memory: process.memoryUsage().rss });
  process.exit(0);
}

function work() {
  const runs = Buffer.alloc(size);
  const times = options.times ? new Array(size).fill(0) : null;
  const until = Number(options.until ?? size);
  let ran = 0;
  let first = [0, 0];
  let last = null;
  let seen = 0;
  const report = async () => {
    await sleep(300);
    const [ended, used] = last ?? [seen, cpu()];
    await say({
      began_at: first[0],
      ended_at: ended,
      seconds: ended - first[0],
      cpu: used - first[1],
      ran,
      runs: deflateSync(runs).toString("base64"),
      times,
      memory: process.memoryUsage().rss,
    });
    process.exit(0);
  };
  const job = async (given) => {
    const { n } = given.data;
    seen = now();
    if (times) times[n] = seen;
    runs[n] += 1;
    ran += 1;
    if (ran === 1) {
      first = [seen, cpu()];
      say({ began: true });
    }
    if (ran === until) {
      last = [seen, cpu()];
      report();
    }
  };
  process.stdin.once("data", report);
  new Worker("bench", job, { connection, concurrency: Number(options.concurrency ?? 32) });
}

await (what === "schedule" ? schedule() : work());
