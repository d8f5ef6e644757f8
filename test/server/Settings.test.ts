/** Settings: defaults, parsing, invalid values, secrets in files, and `.env.example`. */
import { assert, describe, it } from "@effect/vitest"
import { defaults, readSettings, Settings, SettingsInvalid } from "#server/Settings.ts"
import { Duration, Effect, Option, Redacted } from "effect"
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const masterKey = Buffer.alloc(32, 7).toString("base64")
const token = "0123456789abcdef-token"

const problemsOf = (env: Record<string, string | undefined>) =>
  Effect.map(Effect.flip(readSettings(env, false)), (error) => error.problems)

const temporaryFile = (content: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const directory = mkdtempSync(join(tmpdir(), "control-test-"))
      const path = join(directory, "secret")
      writeFileSync(path, content)
      chmodSync(path, 0o644)
      return { directory, path }
    }),
    ({ directory }) => Effect.sync(() => rmSync(directory, { recursive: true }))
  ).pipe(Effect.map(({ path }) => path))

describe("reading settings", () => {
  it.effect("an empty environment gives the documented defaults", () =>
    Effect.gen(function*() {
      const values = yield* readSettings({}, false)
      assert.deepStrictEqual(values, defaults)
      assert.strictEqual(values.wsHost, "::")
      assert.strictEqual(values.wsPort, 3001)
      assert.strictEqual(values.apiHost, "127.0.0.1")
      assert.strictEqual(values.apiPort, 3000)
      assert.strictEqual(values.dataDir, "./data")
      assert.isTrue(Option.isNone(values.databaseUrl))
      assert.deepStrictEqual(values.heartbeatTimeout, Duration.seconds(60))
      assert.strictEqual(values.maxMessageBytes, 262_144)
      assert.strictEqual(values.networkPool, "10.64.0.0/10")
      assert.strictEqual(values.logLevel, "Info")
      assert.strictEqual(values.logFormat, "json")
    }))

  it.effect("every variable sets its value", () =>
    Effect.gen(function*() {
      const values = yield* readSettings({
        CONTROL_WS_HOST: "::1",
        CONTROL_WS_PORT: "0",
        CONTROL_PUBLIC_URL: "wss://control.example.com/a",
        CONTROL_API_HOST: "localhost",
        CONTROL_API_PORT: "8080",
        CONTROL_TLS_CERTIFICATE: "/etc/control/certificate.pem",
        CONTROL_TLS_PRIVATE_KEY: "/etc/control/key.pem",
        CONTROL_REQUIRE_TLS: "true",
        CONTROL_TRUSTED_PROXIES: "10.0.0.0/8, 2001:db8::/32,192.0.2.1",
        CONTROL_PROXY_PROTOCOL: "both",
        CONTROL_ALLOWED_HOSTS: "Control.example.com, control,10.1.2.3",
        CONTROL_ALLOWED_ORIGINS: "https://Console.example.com/,http://localhost:8080",
        DATABASE_URL: "postgres://user@localhost/db?host=%2Frun%2Fpostgresql",
        CONTROL_LISTEN_URL: "postgres://direct/db",
        PGSSLMODE: "verify-full",
        CONTROL_DATA_DIR: "/srv/control",
        CONTROL_ADMIN_TOKEN: token,
        CONTROL_MASTER_KEY: masterKey,
        CONTROL_MASTER_KEYS_OLD: `${masterKey}, ${masterKey}`,
        CONTROL_HEARTBEAT_INTERVAL: "1500 millis",
        CONTROL_HEARTBEAT_TIMEOUT: "2 minutes",
        CONTROL_AUTH_TIMEOUT: "1 second",
        CONTROL_DRAIN_TIMEOUT: "20 seconds",
        CONTROL_MAX_MESSAGE_BYTES: "1024",
        CONTROL_AUDIT_RETENTION: "90 days",
        CONTROL_MAX_MESSAGES_PER_SECOND: "7",
        CONTROL_MAX_BYTES_PER_SECOND: "20000",
        CONTROL_MAX_CONNECTIONS: "10",
        CONTROL_MAX_UNAUTHENTICATED: "8",
        CONTROL_MAX_UNAUTHENTICATED_PER_IP: "9",
        CONTROL_MTU: "1400",
        CONTROL_NETWORK_POOL: "192.168.4.0/24",
        CONTROL_NODE_NAME: "one",
        CONTROL_LOG_LEVEL: "warn",
        CONTROL_LOG_FORMAT: "pretty"
      })
      const { databaseUrl, listenUrl, postgresVariables, adminToken, masterKey: key, oldMasterKeys, ...rest } = values
      assert.deepStrictEqual(rest, {
        exposedFiles: [],
        wsHost: "::1",
        wsPort: 0,
        publicUrl: Option.some("wss://control.example.com/a"),
        apiHost: "localhost",
        apiPort: 8080,
        tlsCertificate: Option.some("/etc/control/certificate.pem"),
        tlsPrivateKey: Option.some("/etc/control/key.pem"),
        requireTls: true,
        trustedProxies: [
          { address: "10.0.0.0", length: 8, family: "ipv4" },
          { address: "2001:db8::", length: 32, family: "ipv6" },
          { address: "192.0.2.1", length: 32, family: "ipv4" }
        ],
        proxyProtocol: "both",
        allowedHosts: ["control.example.com", "control", "10.1.2.3"],
        allowedOrigins: ["https://console.example.com", "http://localhost:8080"],
        nodeName: "one",
        dataDir: "/srv/control",
        heartbeatInterval: Duration.millis(1500),
        heartbeatTimeout: Duration.minutes(2),
        authTimeout: Duration.seconds(1),
        drainTimeout: Duration.seconds(20),
        auditRetention: Duration.days(90),
        maxMessageBytes: 1024,
        maxMessagesPerSecond: 7,
        maxBytesPerSecond: 20_000,
        maxConnections: 10,
        maxUnauthenticated: 8,
        maxUnauthenticatedPerIp: 9,
        mtu: 1_400,
        networkPool: "192.168.4.0/24",
        logLevel: "Warn",
        logFormat: "pretty"
      })
      assert.strictEqual(
        Redacted.value(Option.getOrThrow(databaseUrl)),
        "postgres://user@localhost/db?host=%2Frun%2Fpostgresql"
      )
      assert.strictEqual(Redacted.value(Option.getOrThrow(listenUrl)), "postgres://direct/db")
      assert.deepStrictEqual(Redacted.value(postgresVariables), { PGSSLMODE: "verify-full" })
      assert.strictEqual(Redacted.value(Option.getOrThrow(adminToken)), token)
      assert.strictEqual(Redacted.value(Option.getOrThrow(key)), masterKey)
      assert.strictEqual(Redacted.value(Option.getOrThrow(oldMasterKeys)), `${masterKey},${masterKey}`)
    }))

  it.effect("an empty value counts as unset", () =>
    Effect.gen(function*() {
      const values = yield* readSettings({ CONTROL_WS_PORT: "", CONTROL_MASTER_KEY: "", CONTROL_WS_PROT: "" }, false)
      assert.deepStrictEqual(values, defaults)
    }))

  it.effect("the log format is pretty on a terminal, and JSON otherwise", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* readSettings({}, true)).logFormat, "pretty")
      assert.strictEqual((yield* readSettings({ CONTROL_LOG_FORMAT: "json" }, true)).logFormat, "json")
    }))

  it.effect("Settings.layerOf provides given values", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* Settings).wsPort, 0)
    }).pipe(Effect.provide(Settings.layerOf({ ...defaults, wsPort: 0 }))))
})

describe("invalid settings", () => {
  it.effect("the error lists every invalid setting with its value and the allowed values", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(readSettings({
        CONTROL_WS_PORT: "65536",
        CONTROL_HEARTBEAT_TIMEOUT: "15s",
        CONTROL_NETWORK_POOL: "10.64.0.1/10",
        CONTROL_LOG_LEVEL: "loud"
      }))
      assert.instanceOf(error, SettingsInvalid)
      assert.deepStrictEqual(error.message.split("\n"), [
        "CONTROL_WS_PORT is \"65536\", but must be a whole number from 0 to 65535 (0: any free port)",
        "CONTROL_HEARTBEAT_TIMEOUT is \"15s\", but must be a duration from 2 seconds to 1 day, such as 2500 millis, " +
        "30 seconds or 2 minutes",
        "CONTROL_NETWORK_POOL is \"10.64.0.1/10\", but must be an IPv4 network in CIDR notation from /8 to /24 " +
        "without host bits, such as 10.64.0.0/10",
        "CONTROL_LOG_LEVEL is \"loud\", but must be one of trace, debug, info, warn, error, fatal, none"
      ])
    }))

  const invalid: ReadonlyArray<readonly [string, ReadonlyArray<string>]> = [
    ["CONTROL_WS_PORT", ["-1", "3001.5", "0x10", " 80", "1e3", "http"]],
    ["CONTROL_WS_HOST", ["a b", "*.example.com", "http://host", "256.1.1.1"]],
    ["CONTROL_AUTH_TIMEOUT", ["0 seconds", "-1 seconds", "2 days", "Infinity", "10"]],
    ["CONTROL_HEARTBEAT_TIMEOUT", ["1 second"]],
    ["CONTROL_NETWORK_POOL", ["10.0.0.0/25", "10.0.0.0/7", "10.0.0.0", "10.0.1.0/16", "::/0", "10.0.0.0/08"]],
    ["CONTROL_MAX_MESSAGE_BYTES", ["1023", "16777217"]],
    ["CONTROL_MAX_MESSAGES_PER_SECOND", ["0"]],
    ["CONTROL_LOG_FORMAT", ["xml", "constructor"]]
  ]
  for (const [name, values] of invalid) {
    it.effect(`${name} rejects ${values.join(", ")}`, () =>
      Effect.gen(function*() {
        for (const given of values) {
          const problems = yield* problemsOf({ [name]: given })
          assert.deepStrictEqual(problems.map((problem) => [problem.name, problem.given]), [[name, given]])
        }
      }))
  }

  it.effect("an invalid secret is reported without its value", () =>
    Effect.gen(function*() {
      const canary = "canary"
      const error = yield* Effect.flip(readSettings({
        CONTROL_MASTER_KEY: canary,
        CONTROL_MASTER_KEYS_OLD: `${masterKey},${canary}`,
        CONTROL_ADMIN_TOKEN: canary,
        DATABASE_URL: `mysql://root:${canary}@localhost/db`,
        CONTROL_MASTERKEY: canary
      }))
      assert.deepStrictEqual(error.problems.map(({ name }) => name), [
        "DATABASE_URL",
        "CONTROL_ADMIN_TOKEN",
        "CONTROL_MASTER_KEY",
        "CONTROL_MASTER_KEYS_OLD",
        "CONTROL_MASTERKEY"
      ])
      assert.notInclude(error.message + JSON.stringify(error), canary)
    }))

  it.effect("a misspelled setting is reported, with the name of a similar setting if there is one", () =>
    Effect.gen(function*() {
      const problems = yield* problemsOf({ CONTROL_WS_PROT: "1", CONTROL_ADMIN_TOKEN_FIEL: "x", CONTROL_FOO: "x" })
      assert.deepStrictEqual(problems, [
        {
          name: "CONTROL_WS_PROT",
          allowed: "removed, because there is no such setting; did you mean CONTROL_WS_PORT?"
        },
        {
          name: "CONTROL_ADMIN_TOKEN_FIEL",
          allowed: "removed, because there is no such setting; did you mean CONTROL_ADMIN_TOKEN_FILE?"
        },
        { name: "CONTROL_FOO", allowed: "removed, because there is no such setting" }
      ])
    }))

  it.effect("variables of Kubernetes and of other programs are not reported", () =>
    Effect.gen(function*() {
      yield* readSettings({
        CONTROL_SERVICE_HOST: "10.0.0.1",
        CONTROL_SERVICE_PORT_HTTP: "80",
        CONTROL_PORT: "tcp://10.0.0.1:80",
        CONTROL_PORT_80_TCP_ADDR: "10.0.0.1",
        SOME_TOKEN_FILE: "/nowhere",
        WS_PORT: "x"
      })
    }))

  it.effect("a heartbeat interval above the heartbeat timeout is rejected, even if one of them is a default", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* problemsOf({ CONTROL_HEARTBEAT_TIMEOUT: "10 seconds" }), [{
        name: "CONTROL_HEARTBEAT_INTERVAL",
        given: "30 seconds",
        allowed: "at most CONTROL_HEARTBEAT_TIMEOUT, which is 10 seconds"
      }])
      yield* readSettings({ CONTROL_HEARTBEAT_TIMEOUT: "10 seconds", CONTROL_HEARTBEAT_INTERVAL: "10 seconds" })
    }))

  it.effect("an invalid setting is not compared with other settings", () =>
    Effect.gen(function*() {
      const problems = yield* problemsOf({
        CONTROL_HEARTBEAT_TIMEOUT: "10 seconds",
        CONTROL_HEARTBEAT_INTERVAL: "often"
      })
      assert.deepStrictEqual(problems.map(({ given }) => given), ["often"])
    }))
})

describe("secrets in files", () => {
  it.effect("the file of NAME_FILE is read without its final line break", () =>
    Effect.gen(function*() {
      const values = yield* readSettings({ CONTROL_MASTER_KEY_FILE: yield* temporaryFile(`${masterKey}\n`) })
      assert.strictEqual(Redacted.value(Option.getOrThrow(values.masterKey)), masterKey)
      assert.deepStrictEqual(values.exposedFiles, ["CONTROL_MASTER_KEY_FILE"], "other users can read the file")
    }))

  it.effect("an unreadable file or an invalid secret in it is reported for NAME_FILE", () =>
    Effect.gen(function*() {
      const path = yield* temporaryFile("canary\n")
      const problems = yield* problemsOf({ CONTROL_ADMIN_TOKEN_FILE: "/nowhere/at/all", CONTROL_MASTER_KEY_FILE: path })
      assert.deepStrictEqual(problems, [
        {
          name: "CONTROL_ADMIN_TOKEN_FILE",
          given: "/nowhere/at/all",
          allowed: "the path of a file that this process can read"
        },
        {
          name: "CONTROL_MASTER_KEY_FILE",
          given: path,
          allowed: "the path of a file that contains 32 random bytes in base64, as printed by `openssl rand -base64 32`"
        }
      ])
    }))

  it.effect("a secret with both NAME and NAME_FILE is rejected", () =>
    Effect.gen(function*() {
      const problems = yield* problemsOf({ DATABASE_URL: "postgres://localhost/db", DATABASE_URL_FILE: "/some/file" })
      assert.deepStrictEqual(problems.map(({ name, given }) => [name, given]), [["DATABASE_URL", undefined]])
    }))

  it.effect("a secret does not appear in printed settings", () =>
    Effect.gen(function*() {
      const values = yield* readSettings({ CONTROL_ADMIN_TOKEN: token })
      assert.notInclude(`${values.adminToken} ${JSON.stringify(values)}`, token)
    }))
})
