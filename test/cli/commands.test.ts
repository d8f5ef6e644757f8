/** What `control` prints, and its exit codes. */
import { issueCertificate } from "#support/certificates.ts"
import { adminTokenIn, start, temporaryDirectory } from "#support/process.ts"
import { join as joinAs } from "#support/TestClient.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { writeFile } from "node:fs/promises"
import { join, resolve } from "node:path"
import { createInterface } from "node:readline"
import { runIn } from "./run.ts"

const running = Effect.gen(function*() {
  const dataDir = yield* temporaryDirectory
  const server = yield* start({ CONTROL_DATA_DIR: dataDir })
  // As on the server's own machine: the token is found beside the data.
  const control = runIn({ CONTROL_API_URL: server.apiUrl, CONTROL_DATA_DIR: dataDir })
  return { ...server, dataDir, control }
})

describe("control", () => {
  it.live("makes, lists, shows, changes and deletes, in whichever form is asked for", () =>
    Effect.gen(function*() {
      const { control, dataDir } = yield* running
      const made = yield* control("agent", "create", "--name", "home", "-o", "json")
      assert.strictEqual(made.code, 0, made.stderr)
      assert.strictEqual(made.stderr, "")
      const agent = JSON.parse(made.stdout)
      assert.match(agent.apiKey, /^ctl_agt_/u)

      const table = yield* control("agent", "list")
      assert.match(table.stdout, /^ID +NAME +VIRTUAL IP/u)
      assert.include(table.stdout, agent.id)
      const lines = yield* control("agent", "list", "-o", "jsonl")
      assert.deepStrictEqual(JSON.parse(lines.stdout).name, "home")
      const yaml = yield* control("agent", "get", agent.id, "-o", "yaml")
      assert.include(yaml.stdout, `name: "home"\n`)

      const gateway = JSON.parse(
        (yield* control(
          "gateway",
          "create",
          "--name",
          "edge",
          "--listen-port",
          "4000",
          "--public-ip",
          "203.0.113.7",
          "-o",
          "json"
        ))
          .stdout
      )
      assert.strictEqual(gateway.listenPort, 4000)
      const cleared = yield* control("gateway", "update", gateway.id, "--public-ip", "null", "-o", "json")
      assert.isNull(JSON.parse(cleared.stdout).publicIp)

      const given = ["--agent-id", agent.id, "--domain", "app.example.com", "--target", "localhost:80"]
      const tunnel = JSON.parse((yield* control("tunnel", "create", ...given, "--enabled", "-o", "json")).stdout)
      assert.isTrue(tunnel.enabled)
      const disabled = yield* control("tunnel", "update", tunnel.id, "--no-enabled", "-o", "json")
      assert.isFalse(JSON.parse(disabled.stdout).enabled)
      const serves = JSON.stringify({ agents: [agent.id], domains: [] })
      const limited = yield* control("gateway", "update", gateway.id, "--serves", serves, "-o", "json")
      assert.deepStrictEqual(JSON.parse(limited.stdout).serves, { agents: [agent.id], domains: [] }, limited.stderr)
      yield* Effect.promise(() => writeFile(join(dataDir, "scope"), `{"domains":["app.example.com"]}\n`))
      const read = yield* control(
        "gateway",
        "update",
        gateway.id,
        "--serves",
        `@${join(dataDir, "scope")}`,
        "-o",
        "json"
      )
      assert.deepStrictEqual(JSON.parse(read.stdout).serves, { agents: [], domains: ["app.example.com"] }, read.stderr)
      const unread = yield* control("gateway", "update", gateway.id, "--serves", "app.example.com")
      assert.strictEqual(unread.code, 2)
      assert.include(unread.stderr, "--serves must be a JSON object")
      const all = yield* control("gateway", "update", gateway.id, "--serves", "null", "-o", "json")
      assert.isNull(JSON.parse(all.stdout).serves, all.stderr)

      const { certificate, privateKey } = issueCertificate({ names: ["app.example.com"] })
      yield* Effect.promise(() => writeFile(join(dataDir, "pem"), certificate))
      yield* Effect.promise(() => writeFile(join(dataDir, "key"), privateKey))
      const stored = yield* control(
        "certificate",
        "create",
        "app.example.com",
        "--certificate",
        `@${join(dataDir, "pem")}`,
        "--private-key",
        `@${join(dataDir, "key")}`,
        "-o",
        "json"
      )
      assert.strictEqual(JSON.parse(stored.stdout).certificate, certificate, stored.stderr)
      assert.notInclude(stored.stdout, "PRIVATE")

      const key = JSON.parse((yield* control("key", "create", "--agent", agent.id, "-o", "json")).stdout)
      assert.strictEqual((yield* control("key", "delete", key.id, "--agent", agent.id)).code, 0)
      assert.strictEqual(
        (yield* control("key", "list", "--gateway", gateway.id, "-o", "jsonl")).stdout.trim().split("\n").length,
        1
      )
      assert.strictEqual((yield* control("tunnel", "delete", tunnel.id)).code, 0)
      const audit = yield* control("audit", "list", "--entity-type", "tunnel", "-o", "json")
      assert.deepStrictEqual(
        JSON.parse(audit.stdout).map(({ action }: { action: string }) => action),
        ["tunnel.delete", "tunnel.update", "tunnel.create"]
      )
      assert.deepStrictEqual((yield* control("client", "list", "-o", "json")).stdout, "[]\n")
    }), 90_000)

  it.live("says by its exit code what went wrong, and in words on standard error only", () =>
    Effect.gen(function*() {
      const { apiUrl, control, dataDir, wsPort } = yield* running
      const { apiKey, id } = JSON.parse((yield* control("agent", "create", "--name", "a", "-o", "json")).stdout)
      const agentId = ["--agent-id", id]
      const elsewhere = runIn({ CONTROL_API_URL: apiUrl, CONTROL_ADMIN_TOKEN: "not-the-right-token" })
      const nowhere = runIn({ CONTROL_API_URL: "http://127.0.0.1:9", CONTROL_DATA_DIR: dataDir })
      const remote = runIn({ CONTROL_API_URL: "https://control.example.com", CONTROL_DATA_DIR: dataDir })
      // A name may begin like an address of this machine: its server must not be given the token of this one.
      const disguised = runIn({ CONTROL_API_URL: "http://127.0.0.1.invalid", CONTROL_DATA_DIR: dataDir })
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
        [2, "nonsense", control("nonsense")],
        [2, "--agent ID or --gateway ID", control("key", "list")],
        [2, "--follow", control("events")],
        [3, "there is no tunnel nix", control("tunnel", "get", "nix")],
        [4, "admin token", elsewhere("agent", "list")],
        [
          4,
          "admin token",
          runIn({ CONTROL_API_PORT: new URL(apiUrl).port, CONTROL_ADMIN_TOKEN: "not-the-right-token" })("doctor")
        ],
        [4, "CONTROL_ADMIN_TOKEN", remote("agent", "list")],
        [4, "CONTROL_ADMIN_TOKEN", disguised("agent", "list")],
        [5, "no answer from http://127.0.0.1:9", nowhere("agent", "list")]
      ] as const
      for (const [code, words, run] of failures) {
        const ran = yield* run
        assert.strictEqual(ran.code, code, `${words}: ${ran.stdout}${ran.stderr}`)
        assert.include(ran.stderr, words)
        if (code !== 2) assert.strictEqual(ran.stdout, "")
      }
      yield* joinAs(wsPort, "agent", apiKey)
      const late = yield* control(
        "tunnel",
        "create",
        ...agentId,
        "--domain",
        "c.example.com",
        "--target",
        "h:1",
        "--wait",
        "applied",
        "--timeout",
        "100ms",
        "-o",
        "json"
      )
      assert.strictEqual(late.code, 6, late.stderr)
      assert.strictEqual(JSON.parse(late.stdout).domain, "c.example.com")
      assert.strictEqual((yield* control("--help")).code, 0)
    }), 90_000)

  it.live("gives a list whole, however many pages it has", () =>
    Effect.gen(function*() {
      const { apiUrl, control, dataDir } = yield* running
      const token = yield* adminTokenIn(dataDir)
      yield* Effect.promise(() =>
        Promise.all(Array.from({ length: 130 }, (_, name) =>
          fetch(`${apiUrl}/api/gateways`, {
            method: "POST",
            headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
            body: JSON.stringify({ name: `${name}` })
          })))
      )
      assert.lengthOf(JSON.parse((yield* control("gateway", "list", "-o", "json")).stdout), 130)
      assert.lengthOf(JSON.parse((yield* control("gateway", "list", "--limit", "7", "-o", "json")).stdout), 7)
    }), 60_000)

  it.live("follows what happens until it is ended, and then exits with 0", () =>
    Effect.gen(function*() {
      const { apiUrl, control, dataDir } = yield* running
      const follower = yield* Effect.acquireRelease(
        Effect.sync(() =>
          spawn(process.execPath, [resolve("bin/control.mjs"), "events", "--follow", "-o", "jsonl"], {
            env: { PATH: process.env["PATH"], CONTROL_API_URL: apiUrl, CONTROL_DATA_DIR: dataDir },
            stdio: ["ignore", "pipe", "inherit"]
          })
        ),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      const lines = createInterface({ input: follower.stdout })
      const first = once(lines, "line")
      // It may come late for the first of these, and is told of one of them in any case.
      const making = yield* Effect.forkScoped(
        Effect.forever(Effect.suspend(() => control("agent", "create", "--name", "a")))
      )
      const [line] = yield* Effect.promise(() => first)
      making.interruptUnsafe()
      const { data, event } = JSON.parse(String(line))
      assert.strictEqual(event, "change")
      assert.include(["agent", "key"], data.entityType)
      const exited = once(follower, "exit")
      follower.kill("SIGTERM")
      assert.deepStrictEqual((yield* Effect.promise(() => exited))[0], 0)
    }), 60_000)
})
