/** Starts and ends of the programs as processes: help, wrong options, a wrong key, `--once`, signals, and metrics. */
import { freePort } from "#support/freePort.ts"
import { TestServer } from "#support/TestServer.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { join, resolve } from "node:path"
import { createInterface } from "node:readline"

const start = (program: "agent" | "gateway", args: ReadonlyArray<string>, environment: Record<string, string> = {}) => {
  const child = spawn(process.execPath, [resolve("bin/control.mjs"), program, "run", ...args], {
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...environment },
    stdio: ["ignore", "pipe", "pipe"]
  })
  const printed = { stdout: "", stderr: "" }
  child.stdout.on("data", (chunk: Buffer) => void (printed.stdout += String(chunk)))
  child.stderr.on("data", (chunk: Buffer) => void (printed.stderr += String(chunk)))
  const line = async (text: string) => {
    for await (const one of createInterface(child.stderr)) if (one.includes(text)) return
  }
  return { child, printed, line, ended: once(child, "close").then(([code]): number => code) }
}

layer(TestServer.layer(), { excludeTestServices: true, timeout: 60_000 })("the programs", (it) => {
  it.effect("--help shows every option, and wrong options exit with 2 and name each fault", () =>
    Effect.promise(async () => {
      const help = start("gateway", ["--help"])
      assert.strictEqual(await help.ended, 0)
      for (
        const text of [
          "--env-file FILE",
          "--https-port PORT",
          "CONTROL_API_KEY",
          "control gateway run --env-file edge.env"
        ]
      ) {
        assert.include(help.printed.stdout, text)
      }
      const wrong = start("agent", ["--device", "tap", "--metrics", "x"])
      assert.strictEqual(await wrong.ended, 2)
      for (
        const text of [
          "CONTROL_URL is missing",
          "--device is \"tap\"",
          "--metrics is \"x\"",
          "control agent run --help"
        ]
      ) {
        assert.include(wrong.printed.stderr, text)
      }
    }))

  it.effect("a wrong key exits with 1 and a sentence", () =>
    Effect.gen(function*() {
      const { wsPort } = yield* TestServer
      const directory = yield* temporaryDirectory
      const agent = start("agent", ["--state-dir", directory, "--log-format", "pretty"], {
        CONTROL_URL: `ws://127.0.0.1:${wsPort}`,
        CONTROL_API_KEY: "ctl_agt_000000000000_0000000000000000000000000000000000000000000"
      })
      assert.strictEqual(yield* Effect.promise(() => agent.ended), 1)
      assert.include(agent.printed.stderr, "Control rejects the API key; create a new one with `control key create`")
    }))

  it.effect("--once exits with 0 when everything is applied", () =>
    Effect.gen(function*() {
      const { newAgent, wsPort } = yield* TestServer
      const { apiKey } = yield* newAgent
      const directory = yield* temporaryDirectory
      const environment = {
        CONTROL_URL: `ws://127.0.0.1:${wsPort}`,
        CONTROL_API_KEY: apiKey,
        CONTROL_AGENT_ONCE: "true"
      }
      for (const attempt of ["a first config", "a resumed view"]) {
        const agent = start("agent", ["--state-dir", directory], environment)
        assert.strictEqual(yield* Effect.promise(() => agent.ended), 0, attempt)
      }
    }))

  it.effect("metrics are served, a signal drains and exits with 0, and a taken port is named", () =>
    Effect.gen(function*() {
      const { newGateway, operator, wsPort } = yield* TestServer
      const { apiKey, id } = yield* newGateway
      const [http, https, metrics] = yield* Effect.promise(() => Promise.all([freePort(), freePort(), freePort()]))
      yield* Effect.promise(() => operator.patch(`/api/gateways/${id}`, { listenPort: http }))
      const directory = yield* temporaryDirectory
      const environment = { CONTROL_URL: `ws://127.0.0.1:${wsPort}`, CONTROL_API_KEY: apiKey }
      const args = [
        "--bind",
        "127.0.0.1",
        "--http-port",
        String(http),
        "--https-port",
        String(https),
        "--device",
        "userspace"
      ]
      const state = ["--state-dir", join(directory, "one"), "--metrics", `127.0.0.1:${metrics}`]
      const gateway = start("gateway", [...args, ...state], environment)
      yield* Effect.promise(() => gateway.line("applied the view"))
      const text = yield* Effect.promise(async () => await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text())
      assert.include(text, "# TYPE control_gateway_open_requests gauge")
      assert.strictEqual((yield* Effect.promise(() => fetch(`http://127.0.0.1:${metrics}/readyz`))).status, 200)
      const second = start("gateway", [...args, "--state-dir", join(directory, "two")], environment)
      assert.strictEqual(yield* Effect.promise(() => second.ended), 1)
      assert.include(second.printed.stderr, String(http))
      gateway.child.kill("SIGTERM")
      assert.strictEqual(yield* Effect.promise(() => gateway.ended), 0)
    }))
})
