/** Commands of `control` against a running server: their output and their exit codes. */
import { scopedProcess } from "#support/temporaryFiles.ts"
import { issueCertificate } from "#support/certificates.ts"
import { readAdminToken } from "#support/serverProcess.ts"
import { join as joinAs } from "#support/TestClient.ts"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { writeFile } from "node:fs/promises"
import { join, resolve } from "node:path"
import { createInterface } from "node:readline"
import { runIn, runProcessIn, SharedServer } from "./run.ts"

const json = ["-o", "json"] as const

layer(SharedServer.layer, { excludeTestServices: true, timeout: 60_000 })("control", (it) => {
  it.effect("control creates, lists, shows, updates and deletes resources, in every output format", () =>
    Effect.gen(function*() {
      const { control, dataDir } = yield* SharedServer
      const created = yield* control("agent", "create", "--name", "home", ...json)
      assert.strictEqual(created.code, 0, created.stderr)
      assert.strictEqual(created.stderr, "")
      const agent = JSON.parse(created.stdout)
      assert.match(agent.apiKey, /^ctl_agt_/u)

      const table = yield* control("agent", "list")
      assert.match(table.stdout, /^NAME +STATUS +VIRTUAL IP/u)
      assert.include(table.stdout, agent.id)
      const lines = yield* control("agent", "list", "-o", "jsonl")
      assert.deepStrictEqual(JSON.parse(lines.stdout).name, "home")
      const fields = yield* control("agent", "get", agent.id)
      assert.match(fields.stdout, /^name +home$/mu)

      const port = ["--listen-port", "4000", "--public-ip", "203.0.113.7"]
      const gateway = JSON.parse((yield* control("gateway", "create", "--name", "edge", ...port, ...json)).stdout)
      assert.strictEqual(gateway.listenPort, 4000)
      const cleared = yield* control("gateway", "update", gateway.id, "--public-ip", "null", ...json)
      assert.isNull(JSON.parse(cleared.stdout).publicIp)

      const given = ["--agent", "home", "--domain", "app.example.com", "--target", "localhost:80"]
      const tunnel = JSON.parse((yield* control("tunnel", "create", ...given, "--enabled", ...json)).stdout)
      assert.isTrue(tunnel.enabled)
      const disabled = yield* control("tunnel", "update", tunnel.id, "--no-enabled", ...json)
      assert.isFalse(JSON.parse(disabled.stdout).enabled)

      const { certificate, privateKey } = issueCertificate({ names: ["app.example.com"] })
      yield* Effect.promise(() => writeFile(join(dataDir, "pem"), certificate))
      yield* Effect.promise(() => writeFile(join(dataDir, "key"), privateKey))
      const pem = ["--certificate", `@${join(dataDir, "pem")}`, "--private-key", `@${join(dataDir, "key")}`]
      const stored = yield* control("certificate", "create", "app.example.com", ...pem, ...json)
      assert.strictEqual(JSON.parse(stored.stdout).certificate, certificate, stored.stderr)
      assert.notInclude(stored.stdout, "PRIVATE")

      const key = JSON.parse((yield* control("key", "create", "--agent", agent.id, ...json)).stdout)
      assert.strictEqual((yield* control("key", "delete", key.id, "--agent", agent.id)).code, 0)
      assert.strictEqual(
        (yield* control("key", "list", "--gateway", gateway.id, "-o", "jsonl")).stdout.trim().split("\n").length,
        1
      )
      assert.strictEqual((yield* control("tunnel", "delete", tunnel.id)).code, 0)
      const audit = yield* control("audit", "list", "--entity-type", "tunnel", "--entity-id", tunnel.id, ...json)
      assert.deepStrictEqual(
        JSON.parse(audit.stdout).map(({ action }: { action: string }) => action),
        ["tunnel.delete", "tunnel.update", "tunnel.create"]
      )
      assert.deepStrictEqual((yield* control("client", "list", ...json)).stdout, "[]\n")
    }))

  it.effect("control reads an object from JSON or from @FILE, and null clears it", () =>
    Effect.gen(function*() {
      const { control, dataDir } = yield* SharedServer
      const agent = JSON.parse((yield* control("agent", "create", "--name", "scoped", ...json)).stdout)
      const gateway = JSON.parse((yield* control("gateway", "create", "--name", "scoped", ...json)).stdout)
      const serves = JSON.stringify({ agents: [agent.id], domains: [] })
      const limited = yield* control("gateway", "update", gateway.id, "--serves", serves, ...json)
      assert.deepStrictEqual(JSON.parse(limited.stdout).serves, { agents: [agent.id], domains: [] }, limited.stderr)
      yield* Effect.promise(() => writeFile(join(dataDir, "scope"), `{"domains":["app.example.com"]}\n`))
      const scope = `@${join(dataDir, "scope")}`
      const read = yield* control("gateway", "update", gateway.id, "--serves", scope, ...json)
      assert.deepStrictEqual(JSON.parse(read.stdout).serves, { agents: [], domains: ["app.example.com"] }, read.stderr)
      const rejected = yield* control("gateway", "update", gateway.id, "--serves", "app.example.com")
      assert.strictEqual(rejected.code, 2)
      assert.include(rejected.stderr, "--serves must be a JSON object")
      const all = yield* control("gateway", "update", gateway.id, "--serves", "null", ...json)
      assert.isNull(JSON.parse(all.stdout).serves, all.stderr)
    }))

  it.effect("control reports each kind of failure by its exit code, and explains it on standard error only", () =>
    Effect.gen(function*() {
      const { apiUrl, control, dataDir, wsPort } = yield* SharedServer
      const { apiKey, id } = JSON.parse((yield* control("agent", "create", "--name", "a", ...json)).stdout)
      const agentId = ["--agent-id", id]
      const scope = JSON.stringify({ agents: ["aa"], domains: [] })
      const wrongToken = runIn({ CONTROL_API_URL: apiUrl, CONTROL_ADMIN_TOKEN: "not-the-right-token" })
      const nowhere = runIn({ CONTROL_API_URL: "http://127.0.0.1:9", CONTROL_ADMIN_TOKEN: "not-the-right-token" })
      const remote = runIn({ CONTROL_API_URL: "https://control.example.com", CONTROL_DATA_DIR: dataDir })
      const wrongTokenOnly = { CONTROL_DATA_DIR: dataDir, CONTROL_ADMIN_TOKEN: "not-the-right-token" }
      const malformedToken = runIn({ CONTROL_DATA_DIR: dataDir, CONTROL_ADMIN_TOKEN: "short" })
      const failures = [
        [
          1,
          "has tunnels",
          Effect.andThen(
            control("tunnel", "create", ...agentId, "--domain", "a.example.com", "--target", "h:1"),
            control("agent", "delete", id)
          )
        ],
        [2, "target", control("tunnel", "create", ...agentId, "--domain", "b.example.com", "--target", "x")],
        [2, "--name", control("agent", "create")],
        [2, "there is no command control nonsense; see control --help", control("nonsense")],
        [2, "did you mean list?; see control agent --help", control("agent", "lst")],
        [2, "there is no option --nmae; did you mean --name?", control("agent", "create", "--nmae", "x")],
        [2, "--agent AGENT or --gateway GATEWAY", control("key", "list")],
        [2, "--follow", control("events")],
        [3, "control: there is no tunnel nix", control("tunnel", "get", "nix")],
        [3, "control: there is no agent aa; did you mean a?", control("agent", "get", "aa")],
        [3, "control: there is no agent aa; did you mean a?", control("tunnel", "list", "--agent", "aa")],
        [3, "there is no agent aa; did you mean a?", control("gateway", "create", "--name", "g", "--serves", scope)],
        [4, `${apiUrl} does not accept the admin token of CONTROL_ADMIN_TOKEN; check it`, wrongToken("agent", "list")],
        [4, "does not accept the admin token of CONTROL_ADMIN_TOKEN", runIn(wrongTokenOnly)("doctor")],
        [4, "CONTROL_ADMIN_TOKEN", remote("agent", "list")],
        [2, "CONTROL_ADMIN_TOKEN must be 16 to 1024 letters", malformedToken("agent", "list")],
        [5, "no answer from http://127.0.0.1:9", nowhere("agent", "list")]
      ] as const
      for (const [code, words, run] of failures) {
        const ran = yield* run
        assert.strictEqual(ran.code, code, `${words}: ${ran.stdout}${ran.stderr}`)
        assert.include(ran.stderr, words)
        if (code !== 2) assert.strictEqual(ran.stdout, "")
      }
      yield* joinAs(wsPort, "agent", apiKey)
      const target = ["--domain", "c.example.com", "--target", "h:1", "--wait", "applied", "--timeout", "100ms"]
      const late = yield* control("tunnel", "create", ...agentId, ...target, ...json)
      assert.strictEqual(late.code, 6, late.stderr)
      assert.include(late.stderr, "saved, but not applied by 1 client before the timeout")
      assert.strictEqual(JSON.parse(late.stdout).domain, "c.example.com")
    }))

  it.effect("control lists every page unless --limit asks for one page", () =>
    Effect.gen(function*() {
      const { apiUrl, control, dataDir } = yield* SharedServer
      const countGateways = (...options: ReadonlyArray<string>) =>
        Effect.map(control("gateway", "list", ...options, ...json), ({ stdout }) => JSON.parse(stdout).length)
      const before = yield* countGateways()
      const token = yield* readAdminToken(dataDir)
      yield* Effect.forEach(Array.from({ length: 130 }, (_, number) => `${number}`), (name) =>
        Effect.promise(async () => {
          const { status } = await fetch(`${apiUrl}/api/gateways`, {
            method: "POST",
            headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
            body: JSON.stringify({ name })
          })
          assert.strictEqual(status, 201)
        }), { concurrency: 10 })
      assert.strictEqual(yield* countGateways(), before + 130)
      assert.strictEqual(yield* countGateways("--limit", "7"), 7)
    }))

  it.effect(
    "the process of control prints help, data and failures, and exits with the code of the failure",
    () =>
      Effect.gen(function*() {
        const { env } = yield* SharedServer
        const control = runProcessIn(env)
        const [help, list, missing] = yield* Effect.all([
          control("--help"),
          control("agent", "list", ...json),
          control("tunnel", "get", "nix")
        ], { concurrency: "unbounded" })
        assert.strictEqual(help.code, 0)
        assert.include(help.stdout, "EXAMPLES")
        assert.strictEqual(list.code, 0, list.stderr)
        assert.isArray(JSON.parse(list.stdout))
        assert.strictEqual(missing.code, 3)
        assert.strictEqual(missing.stdout, "")
        assert.match(missing.stderr, /^control: .*there is no tunnel nix/u)
      }),
    60_000
  )

  it.effect("control events --follow prints events until SIGTERM, and then exits with 0", () =>
    Effect.gen(function*() {
      const { first, follower } = yield* startFollower
      const { data, event } = JSON.parse(first)
      assert.strictEqual(event, "change")
      assert.include(["agent", "key"], data.entityType)
      const exited = once(follower, "exit")
      follower.kill("SIGTERM")
      assert.deepStrictEqual((yield* Effect.promise(() => exited))[0], 0)
    }), 60_000)

  it.effect("control events --follow ends when its launcher is killed", () =>
    Effect.gen(function*() {
      const { follower } = yield* startFollower
      // The command holds the output as well, so that the output ends with the command.
      const ended = once(follower.stdout, "close")
      follower.kill("SIGKILL")
      yield* Effect.promise(() => ended)
    }), 60_000)
})

/** Number of agents that were created for followers, because names are unique. */
let created = 0

/** Starts `control events --follow`, and returns its process with the first line that it has printed. */
const startFollower = Effect.gen(function*() {
  const { control, env } = yield* SharedServer
  const follower = yield* scopedProcess(() =>
    spawn(process.execPath, [resolve("bin/control.mjs"), "events", "--follow", "-o", "jsonl"], {
      env: { PATH: process.env["PATH"], ...env },
      stdio: ["ignore", "pipe", "ignore"]
    })
  )
  const first = once(createInterface({ input: follower.stdout }), "line")
  // The follower may connect after the first of these changes, and receives one of them in any case.
  const changes = yield* Effect.forkScoped(
    Effect.forever(
      Effect.delay(Effect.suspend(() => control("agent", "create", "--name", `follow-${created += 1}`)), "100 millis")
    )
  )
  const [line] = yield* Effect.promise(() => first)
  changes.interruptUnsafe()
  return { follower, first: String(line) }
})
