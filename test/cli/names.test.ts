/** Names, files and paths on the command line, and what never leaves this machine. */
import { kebab, operations } from "#cli/operations.ts"
import { issueCertificate } from "#support/certificates.ts"
import { recordingServer, redirectingServer } from "#support/httpServer.ts"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { runIn, SharedServer } from "./run.ts"

const json = ["-o", "json"] as const

/** The words of every command that puts `argument` into a path, once for each such place. */
const commandLinesWith = (argument: string): ReadonlyArray<ReadonlyArray<string>> =>
  operations().flatMap(({ group, inputs, verb }) => {
    const places = inputs.filter(({ location }) => location === "path").map(({ name }) => name)
    const options = inputs.filter(({ isRequired, location }) => isRequired && location === "body")
      .flatMap(({ name }) => [`--${kebab(name)}`, "x"])
    return places.map((place) => {
      const valueAt = (name: string) => name === place ? argument : "other"
      const owner = /^(agent|gateway)Keys$/u.exec(group)?.[1]
      const words = owner === undefined
        ? [kebab(group).replace(/s$/u, ""), verb, ...places.map(valueAt)]
        : ["key", verb, ...places.filter((name) => name !== "id").map(valueAt), `--${owner}`, valueAt("id")]
      return [...words, ...options]
    })
  })

layer(SharedServer.layer, { excludeTestServices: true, timeout: 60_000 })("arguments of control", (it) => {
  it.effect("names and domains stand for ids, lists can be filtered, and tables show names", () =>
    Effect.gen(function*() {
      const { control } = yield* SharedServer
      const env = yield* control("agent", "create", "named", "-o", "env")
      assert.strictEqual(env.stderr, "")
      assert.match(env.stdout, /^CONTROL_URL=ws:\/\/\S+:\d+\nCONTROL_API_KEY=ctl_agt_\w+_[\w-]+\n$/u)
      const domain = "named.example.com"
      // The option of 0.2.0 still works.
      for (const [option, host] of [["--agent", domain], ["--agent-id", `two.${domain}`]] as const) {
        const made = yield* control("tunnel", "create", option, "named", "--domain", host, "--target", "localhost:1")
        assert.strictEqual(made.code, 0, made.stderr)
      }
      const table = yield* control("tunnel", "list", "--agent", "named")
      assert.match(
        table.stdout,
        /^DOMAIN +NAME +PROTOCOL +LISTEN PORT +TARGET +AGENT +ENABLED +STATUS +SERVING +ID\nnamed\.example\.com +- +http +- +localhost:1 +named +true +- /u
      )
      const game = ["--name", "minecraft", "--protocol", "tcp", "--listen-port", "25565", "--target", "localhost:25565"]
      const made = yield* control("tunnel", "create", "--agent", "named", ...game, ...json)
      assert.deepInclude(JSON.parse(made.stdout), { domain: null, name: "minecraft", listenPort: 25_565 }, made.stderr)
      const updated = yield* control("tunnel", "update", "minecraft", "--proxy-protocol", "v2", ...json)
      assert.deepInclude(JSON.parse(updated.stdout), { proxyProtocol: "v2", name: "minecraft" }, updated.stderr)
      assert.match(
        (yield* control("tunnel", "list", "--protocol", "tcp")).stdout,
        /^- +minecraft +tcp +25565 +localhost/mu
      )
      const plain = yield* control("tunnel", "create", "--agent", "named", "--target", "localhost:1")
      assert.strictEqual(plain.code, 2)
      assert.include(plain.stderr, "domain: expected a domain")
      assert.strictEqual((yield* control("tunnel", "delete", "minecraft")).code, 0)
      const listed = yield* control("tunnel", "list", "--agent", "named", "--q", "two", ...json)
      assert.deepStrictEqual(JSON.parse(listed.stdout).map((item: { domain: string }) => item.domain), [
        `two.${domain}`
      ])
      assert.strictEqual((yield* control("tunnel", "update", domain, "--no-enabled")).code, 0)
      const shown = yield* control("tunnel", "get", domain)
      assert.match(shown.stdout, /^createdAt +\S+Z \((?:now|\d+ (?:s|min) ago)\)$/mu)
      assert.strictEqual((yield* control("key", "create", "--agent", "named")).code, 0)
      assert.strictEqual((yield* control("tunnel", "delete", `two.${domain}`)).code, 0)
    }))

  it.effect("every command rejects an argument that could be another path, before a request", () =>
    Effect.gen(function*() {
      const { received, url } = yield* recordingServer
      const control = runIn({ CONTROL_API_URL: url, CONTROL_ADMIN_TOKEN: "a-token-of-enough-letters" })
      const lines = ["..", ".", "", "a/b", "../..", "/"].flatMap(commandLinesWith)
      assert.isAbove(lines.length, 6 * 20)
      for (const words of lines) {
        const ran = yield* control(...words)
        assert.strictEqual(ran.code, 2, `${JSON.stringify(words)}: ${ran.stderr}`)
        assert.include(ran.stderr, "an argument must not be empty", JSON.stringify(words))
      }
      assert.deepStrictEqual(received, [])
      // The same command lines are complete, because they reach the server with another argument.
      for (const words of commandLinesWith("fine")) yield* control(...words)
      assert.isAtLeast(received.length, commandLinesWith("fine").length)
    }).pipe(Effect.scoped))

  it.effect("@ reads a file only where the help says so, and @@ stands for @", () =>
    Effect.gen(function*() {
      const { control } = yield* SharedServer
      const made = yield* control("agent", "create", "--name", "@home", ...json)
      assert.strictEqual(JSON.parse(made.stdout).name, "@home", made.stderr)
      const escaped = yield* control("gateway", "create", "--name", "at", "--serves", "@@x")
      assert.strictEqual(escaped.code, 2)
      assert.include(escaped.stderr, "--serves must be a JSON object")
    }))

  it.effect("a redirect is not followed, so that another server gets neither the token nor a private key", () =>
    Effect.gen(function*() {
      const { received, url: other } = yield* recordingServer
      const redirecting = yield* redirectingServer(other)
      const { certificate, privateKey } = issueCertificate({ names: ["x.example.com"] })
      const { dataDir } = yield* SharedServer
      yield* Effect.promise(() => writeFile(join(dataDir, "x.pem"), certificate))
      yield* Effect.promise(() => writeFile(join(dataDir, "x.key"), privateKey))
      const control = runIn({ CONTROL_API_URL: redirecting, CONTROL_ADMIN_TOKEN: "a-token-of-enough-letters" })
      const pem = ["--certificate", `@${join(dataDir, "x.pem")}`, "--private-key", `@${join(dataDir, "x.key")}`]
      const ran = yield* control("certificate", "create", "x.example.com", ...pem)
      assert.strictEqual(ran.code, 1)
      assert.include(ran.stderr, `${redirecting} redirects to ${other}; if you trust it, set CONTROL_API_URL=${other}`)
      assert.deepStrictEqual(received, [])
    }).pipe(Effect.scoped))
})
