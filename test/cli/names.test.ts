/** Names, files and paths on the command line, and what never leaves this machine. */
import { issueCertificate } from "#support/certificates.ts"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { writeFile } from "node:fs/promises"
import { createServer, type RequestListener, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { runIn, SharedServer } from "./run.ts"

const json = ["-o", "json"] as const

layer(SharedServer.layer, { excludeTestServices: true, timeout: 60_000 })("arguments of control", (it) => {
  it.effect("names and domains stand for ids, lists can be filtered, and tables show names", () =>
    Effect.gen(function*() {
      const { control } = yield* SharedServer
      const env = yield* control("agent", "create", "--name", "named", "-o", "env")
      assert.match(env.stdout, /^CONTROL_CLIENT_TYPE=agent\nCONTROL_API_KEY=ctl_agt_\w+_[\w-]+\n$/u)
      const domain = "named.example.com"
      // The option of 0.2.0 still works.
      for (const [option, host] of [["--agent", domain], ["--agent-id", `two.${domain}`]] as const) {
        const made = yield* control("tunnel", "create", option, "named", "--domain", host, "--target", "localhost:1")
        assert.strictEqual(made.code, 0, made.stderr)
      }
      const table = yield* control("tunnel", "list", "--agent", "named")
      assert.match(
        table.stdout,
        /^DOMAIN +TARGET +AGENT +ENABLED +STATUS +REVISION +ID\nnamed\.example\.com +localhost:1 +named +true +- /u
      )
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

  it.effect("an argument that another path could hide in is rejected before a request", () =>
    Effect.gen(function*() {
      const { control } = yield* SharedServer
      const { id } = JSON.parse((yield* control("gateway", "create", "--name", "stays", ...json)).stdout)
      for (const argument of ["..", ".", "", "a/b", "../..", "/"]) {
        for (const words of [["key", "delete", argument, "--gateway", id], ["gateway", "delete", argument]]) {
          const ran = yield* control(...words)
          assert.strictEqual(ran.code, 2, `${words.join(" ")}: ${ran.stderr}`)
          assert.include(ran.stderr, "an argument must not be empty")
        }
        assert.strictEqual((yield* control("key", "list", "--gateway", argument)).code, 2)
      }
      assert.strictEqual((yield* control("gateway", "get", "stays")).code, 0)
    }))

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
      const received: Array<string> = []
      const listen = (handler: RequestListener) =>
        Effect.acquireRelease(
          Effect.callback<string>((resume) => {
            const server = createServer(handler).listen(0, "127.0.0.1", () =>
              resume(Effect.succeed(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)))
            servers.push(server)
          }),
          () =>
            Effect.sync(() =>
              servers.forEach((server) => server.close())
            )
        )
      const servers: Array<Server> = []
      const other = yield* listen((request, response) => {
        received.push(request.url ?? "")
        response.end("{}")
      })
      const redirecting = yield* listen((request, response) => {
        request.resume()
        response.writeHead(307, { location: `${other}/api/certificates/x.example.com` }).end()
      })
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
