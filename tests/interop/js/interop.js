// A grpc-js server or client for tests, steered by lines on stdin; it ends with its stdin.
//
//   interop.js serve ADDRESS NAME      "SERVING svc" sets a status. /test.Echo/Unary answers NAME.
//   interop.js call SERVICE ADDRESS... "call" makes one call, to an address whose last status is SERVING, in turn;
//                                      its answer, or its code, is a line. "list" says what List of the first says.
//
// grpc-js knows no healthCheckConfig, so the client keeps the Watches itself, with grpc-health-check's service.
"use strict";

const readline = require("readline");
const grpc = require("@grpc/grpc-js");
const health = require("grpc-health-check");

const PATIENCE = 15000; // Milliseconds, as the next.
const PAUSE = 100;
const raw = { requestSerialize: (x) => x, requestDeserialize: (x) => x, responseSerialize: (x) => x, responseDeserialize: (x) => x };
const ECHO = { Unary: { path: "/test.Echo/Unary", requestStream: false, responseStream: false, ...raw } };
const options = { "grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 200 };

function say(text) {
  process.stdout.write(`${text}\n`);
}

function eachLine(answer) {
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("line", async (line) => say(await answer(line)));
  lines.on("close", () => process.exit(0));
}

function serve(address, name) {
  const server = new grpc.Server({ "grpc.so_reuseport": 0 });
  const statuses = new health.HealthImplementation({ "": "SERVING", svc: "SERVING" });
  server.addService(ECHO, { Unary: (call, done) => done(null, Buffer.from(name)) });
  statuses.addToServer(server);
  server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error) => {
    if (error) throw error;
    say("ready");
  });
  eachLine((line) => {
    const [status, service] = line.split(" ");
    statuses.setStatus(service, status);
    return "done";
  });
}

class Backend {
  constructor(service, address) {
    const credentials = grpc.credentials.createInsecure();
    this.service = service;
    this.isServing = false;
    this.echo = new (grpc.makeGenericClientConstructor(ECHO))(address, credentials, options);
    this.health = new (grpc.makeGenericClientConstructor(health.service))(address, credentials, options);
    this.watch();
  }

  watch() {
    const watch = this.health.Watch({ service: this.service });
    watch.on("data", (answer) => (this.isServing = answer.status === "SERVING"));
    watch.on("error", () => {}); // "status" tells of it too.
    watch.on("status", () => {
      this.isServing = false;
      setTimeout(() => this.watch(), PAUSE);
    });
  }
}

function call(service, addresses) {
  const backends = addresses.map((address) => new Backend(service, address));
  let turn = 0;
  say("ready");
  eachLine((line) => new Promise((resolve) => {
    if (line === "list") {
      const shown = (error, answer) => resolve(JSON.stringify(error ? error.details : answer.statuses));
      backends[0].health.List({}, { deadline: Date.now() + PATIENCE }, shown);
      return;
    }
    const serving = backends.filter((backend) => backend.isServing);
    if (!serving.length) return resolve("nobody");
    turn += 1;
    const { echo } = serving[turn % serving.length];
    echo.Unary(Buffer.from("ping"), { deadline: Date.now() + PATIENCE }, (error, answer) =>
      resolve(error ? grpc.status[error.code] : answer.toString()));
  }));
}

say(require("@grpc/grpc-js/package.json").version);
const [command, first, ...rest] = process.argv.slice(2);
if (command === "serve") serve(first, rest[0]);
else call(first, rest);
