/** The programs behind a real NAT: both devices, a short path, a NAT that rebinds, and what a killed gateway leaves. */
import { control, Program } from "#support/programProcesses.ts"
import { assert, describe, it } from "@effect/vitest"
import { createHash } from "node:crypto"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { edgeAddress, Namespaces, namespacesProblem } from "./Namespaces.ts"

const problem = namespacesProblem()
if (problem !== undefined) process.stdout.write(`network namespaces are skipped: ${problem}\n`)

const service = `
const { createServer } = require("node:http")
createServer((request, response) => {
  if (request.url === "/") return response.end("hello from home")
  let bytes = 0
  request.on("data", (chunk) => { bytes += chunk.length }).on("end", () => response.end(Buffer.alloc(Math.max(bytes, 1), 7)))
}).listen(8080, "127.0.0.1", () => console.log("listening"))
`

/** Prints the status and the hash of the answer to a request of this many bytes. */
const visit = (bytes: number) => `
const { createHash } = require("node:crypto")
const { request } = require("node:http")
const sent = request({ host: "${edgeAddress}", port: 80, method: "POST", path: ${bytes === 0 ? "\"/\"" : "\"/upload\""},
  headers: { host: "app.example.com" }, timeout: 20000 }, (response) => {
  const hash = createHash("sha256")
  response.on("data", (chunk) => hash.update(chunk)).on("end", () => console.log(response.statusCode, hash.digest("hex")))
})
sent.on("error", (error) => console.log(0, error.message)).on("timeout", () => sent.destroy(new Error("no answer")))
sent.end(Buffer.alloc(${bytes}, 1))
`

const expected = (bytes: number): string =>
  `200 ${createHash("sha256").update(bytes === 0 ? "hello from home" : Buffer.alloc(bytes, 7)).digest("hex")}`

// The reason is printed above.
describe.skipIf(problem !== undefined)("behind a NAT", () => {
  for (
    const devices of [{ gateway: "kernel", agent: "userspace" }, { gateway: "userspace", agent: "kernel" }] as const
  ) {
    it(`a gateway with the ${devices.gateway} device serves an agent with the ${devices.agent} device`, async () => {
      const directory = await mkdtemp(join(tmpdir(), "control-namespaces-"))
      const namespaces = new Namespaces(`cn${process.pid}`)
      const programs: Array<Program> = []
      const environment = {
        CONTROL_DATA_DIR: join(directory, "data"),
        CONTROL_WS_HOST: edgeAddress,
        CONTROL_API_PORT: "0"
      }
      const start = (namespace: string, file: string, ...args: ReadonlyArray<string>) => {
        const program = new Program(file, args, environment, namespaces.name(namespace))
        programs.push(program)
        return program
      }
      const ask = (bytes: number) => namespaces.exec("edge", process.execPath, "-e", visit(bytes)).trim()
      const untilServed = () => {
        const from = performance.now()
        while (ask(0) !== expected(0)) assert.isBelow(performance.now() - from, 60_000, "not served after 60 s")
        return `${Math.round(performance.now() - from)} ms`
      }
      const gateway = () =>
        start(
          "edge",
          "src/gateway/main.ts",
          "--env-file",
          join(directory, "edge.env"),
          "--state-dir",
          join(directory, "edge"),
          "--device",
          devices.gateway,
          "--drain-timeout",
          "1s"
        )
      try {
        await start("edge", "src/server/main.ts").line("serving agents and gateways")
        const run = (...words: ReadonlyArray<string>) => control(words, environment, namespaces.name("edge"))
        await writeFile(
          join(directory, "edge.env"),
          await run("gateway", "create", "edge", "--public-ip", edgeAddress, "-o", "env")
        )
        await writeFile(join(directory, "home.env"), await run("agent", "create", "home", "-o", "env"))
        await start("home", "-e", service).line("listening")
        const first = gateway()
        const home = ["--env-file", join(directory, "home.env"), "--state-dir", join(directory, "home")]
        await start("home", "src/agent/main.ts", ...home, "--device", devices.agent).line("WireGuard is up")
        await first.line("WireGuard is up")
        assert.include(await run("expose", "home", "8080", "app.example.com"), "serving by edge")
        assert.strictEqual(ask(0), expected(0))
        assert.strictEqual(ask(20_000_000), expected(20_000_000), "20 MB each way")
        namespaces.limitPath(1_400)
        assert.strictEqual(ask(2_000_000), expected(2_000_000), "2 MB each way over a path of 1,400 bytes")
        await first.kill()
        const second = gateway()
        await second.line("WireGuard is up")
        const restarted = untilServed()
        namespaces.rebind()
        const rebound = untilServed()
        process.stdout.write(
          `${devices.gateway} gateway: served ${restarted} after a kill, ${rebound} after the NAT rebound\n`
        )
        await second.stop()
        assert.notInclude(namespaces.exec("edge", "ip", "-br", "link"), "ctl")
        assert.notInclude(namespaces.exec("edge", "nft", "list", "tables"), "ctl")
      } finally {
        await Promise.all(programs.map((program) => program.stop()))
        namespaces.remove()
        await rm(directory, { recursive: true, force: true })
      }
    }, 180_000)
  }
})
