/** Signals to a real server process: reload, closed terminal, and a shutdown that hangs. */
import { waitUntil } from "#store/postgres/processes.ts"
import { issueCertificate } from "#support/certificates.ts"
import { collectProcessOutput } from "#support/collectOutput.ts"
import { type ServerProcess, startServer } from "#support/serverProcess.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { scopedProcess, temporaryDirectory } from "#support/temporaryFiles.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { createInterface } from "node:readline"
import { connect } from "node:tls"

/** Returns the certificate that the server shows to a new connection. */
const certificateShownBy = (port: number) =>
  Effect.promise(async () => {
    const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false })
    await once(socket, "secureConnect")
    const certificate = socket.getPeerX509Certificate()?.toString()
    socket.destroy()
    return certificate
  })

const untilPrinted = (server: ServerProcess, text: string) =>
  waitUntil(Effect.sync(() => server.output().includes(text)))

describe("SIGHUP", () => {
  it.live("a server without a terminal reloads its TLS certificate and continues", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const [certificate, key] = [join(dataDir, "certificate.pem"), join(dataDir, "key.pem")]
      const write = (issued = issueCertificate({ names: ["localhost"] })) => {
        writeFileSync(certificate, issued.certificate)
        writeFileSync(key, issued.privateKey, { mode: 0o600 })
        return issued.certificate
      }
      write()
      const { url } = yield* newDatabase
      const server = yield* startServer({
        DATABASE_URL: url,
        CONTROL_DATA_DIR: dataDir,
        CONTROL_TLS_CERTIFICATE: certificate,
        CONTROL_TLS_PRIVATE_KEY: key
      })
      const second = write()
      server.signal("SIGHUP")
      yield* untilPrinted(server, "SIGHUP: the TLS certificate was replaced; all other settings need a restart")
      assert.strictEqual(yield* certificateShownBy(server.wsPort), second)
      assert.strictEqual(yield* certificateShownBy(Number(new URL(server.apiUrl).port)), second)
      server.signal("SIGTERM")
      assert.strictEqual(yield* Effect.promise(() => server.exited), 0)
    }), 60_000)

  const hasScript = spawnSync("script", ["--version"], { encoding: "utf8" }).stdout?.includes("util-linux") === true
  // `script` gives the server a terminal.
  it.live.skipIf(!hasScript)(
    "a server with a terminal drains and exits with 129, which is no success (needs `script` of util-linux)",
    () =>
      Effect.gen(function*() {
        const { url } = yield* newDatabase
        const env = {
          PATH: process.env["PATH"],
          DATABASE_URL: url,
          CONTROL_DATA_DIR: yield* temporaryDirectory,
          CONTROL_WS_PORT: "0",
          CONTROL_API_PORT: "0",
          CONTROL_LOG_LEVEL: "debug"
        }
        const command = `echo pid $$; exec ${process.execPath} ${resolve("src/server/main.ts")}`
        const terminal = yield* scopedProcess(() =>
          spawn("script", ["--quiet", "--return", "--command", command, "/dev/null"], {
            env,
            stdio: ["ignore", "pipe", "inherit"]
          })
        )
        const exited = once(terminal, "exit")
        let [printed, pid] = ["", 0]
        const lines = createInterface({ input: terminal.stdout }).on("line", (line) => {
          printed += `${line}\n`
          pid = Number(/^pid (\d+)/u.exec(line)?.[1] ?? pid)
          if (line.includes("serving agents")) process.kill(pid, "SIGHUP")
        })
        assert.strictEqual((yield* Effect.promise(() => exited))[0], 129)
        lines.close()
        collectProcessOutput("a server with a terminal", printed)
        assert.include(printed, "shutdown: the lease is released")
      }),
    60_000
  )
})

describe("a shutdown", () => {
  it.live(
    "a shutdown that exceeds CONTROL_DRAIN_TIMEOUT exits with 1, and PostgreSQL stops nevertheless",
    () =>
      Effect.gen(function*() {
        const dataDir = yield* temporaryDirectory
        const server = yield* startServer({ CONTROL_DATA_DIR: dataDir, CONTROL_DRAIN_TIMEOUT: "1 second" })
        const pidFile = join(dataDir, "postgres", "postmaster.pid")
        process.kill(Number(readFileSync(pidFile, "utf8").split("\n")[0]), "SIGSTOP")
        server.signal("SIGTERM")
        assert.strictEqual(yield* Effect.promise(() => server.exited), 1)
        assert.include(server.output(), "the shutdown did not end within 1s; exiting")
        yield* waitUntil(Effect.sync(() => !existsSync(pidFile)))
      }),
    60_000
  )
})
