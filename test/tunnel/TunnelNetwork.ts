/** A server, a gateway and an agent in the test process, with real sockets, real WireGuard and real PostgreSQL. */
import { agentOptions } from "#agent/options.ts"
import { runAgent } from "#agent/program.ts"
import { gatewayOptions } from "#gateway/options.ts"
import { runGateway } from "#gateway/program.ts"
import type { Log, LogFields } from "#program/log.ts"
import { type Options, type OptionValues, readOptions } from "#program/options.ts"
import { freeUdpPort } from "#support/freePort.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { TestServer } from "#support/TestServer.ts"
import { assert } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { EventEmitter, once } from "node:events"
import { join } from "node:path"

/** A running program: its log, and its end. */
export interface Program {
  readonly log: ProgramLog
  /** Ends the program as SIGTERM does; resolves with its exit code. */
  readonly stop: () => Promise<number>
}

/** Log of a program, which tests wait on. */
export class ProgramLog extends EventEmitter {
  readonly lines: Array<{ readonly message: string; readonly fields: LogFields }> = []

  readonly asLog: Log = (() => {
    const write = (message: string, fields: LogFields = {}) => {
      this.lines.push({ message, fields })
      this.emit("line")
    }
    return { error: write, warn: write, info: write, debug: () => {} }
  })()

  /** The fields of the first line from `from` on that begins with the text; waits for it. */
  async line(text: string, from = 0): Promise<LogFields> {
    while (true) {
      const found = this.lines.slice(from).find(({ message }) => message.startsWith(text))
      if (found !== undefined) return found.fields
      await once(this, "line")
    }
  }
}

type Run<Table extends Options> = (start: {
  readonly options: OptionValues<Table>
  readonly stateDir: string
  readonly log: Log
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly stop: AbortSignal
}) => Promise<number>

const startProgram = <Table extends Options>(
  table: Table,
  run: Run<Table>,
  args: ReadonlyArray<string>,
  environment: Readonly<Record<string, string>>,
  stateDir: string
): Effect.Effect<Program, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const parsed = readOptions(table, args, environment)
      assert(parsed._tag === "Values", JSON.stringify(parsed))
      const log = new ProgramLog()
      const controller = new AbortController()
      const ended = run({ options: parsed.values, stateDir, log: log.asLog, environment, stop: controller.signal })
      return {
        log,
        stop: () => {
          controller.abort()
          return ended
        }
      }
    }),
    ({ stop }) => Effect.promise(stop)
  )

export interface TunnelNetwork {
  readonly agentId: string
  readonly gatewayId: string
  readonly httpPort: number
  readonly httpsPort: number
  readonly agent: Program
  readonly gateway: Program
  readonly startAgent: Effect.Effect<Program, never, Scope.Scope>
  readonly startGateway: Effect.Effect<
    Program & { readonly httpPort: number; readonly httpsPort: number },
    never,
    Scope.Scope
  >
  /** Creates a tunnel, and waits until the gateway serves it. */
  readonly expose: (tunnel: object) => Effect.Effect<{ readonly id: string; readonly domain: string }>
}

/** Starts one agent and one gateway at the shared server. */
export const startTunnelNetwork: Effect.Effect<TunnelNetwork, never, TestServer | Scope.Scope> = Effect.gen(
  function*() {
    const { newAgent, newGateway, operator, wsPort } = yield* TestServer
    const directory = yield* temporaryDirectory
    const url = `ws://127.0.0.1:${wsPort}`
    const { apiKey: gatewayKey, id: gatewayId } = yield* newGateway
    const listenPort = yield* Effect.promise(freeUdpPort)
    yield* Effect.promise(() => operator.patch(`/api/gateways/${gatewayId}`, { publicIp: "127.0.0.1", listenPort }))
    const { apiKey: agentKey, id: agentId } = yield* newAgent
    let ports = { http: "0", https: "0" }
    const startGateway = Effect.gen(function*() {
      const program = yield* startProgram(
        gatewayOptions,
        runGateway,
        [
          "--bind",
          "127.0.0.1",
          "--http-port",
          ports.http,
          "--https-port",
          ports.https,
          "--device",
          "userspace",
          "--drain-timeout",
          "0.2s"
        ],
        { CONTROL_URL: url, CONTROL_API_KEY: gatewayKey },
        join(directory, "gateway")
      )
      const { http, https } = yield* Effect.promise(() => program.log.line("serving visitors"))
      ports = { http: String(http), https: String(https) }
      yield* Effect.promise(() => program.log.line("WireGuard is up"))
      return { ...program, httpPort: Number(http), httpsPort: Number(https) }
    })
    const startAgent = Effect.tap(
      startProgram(
        agentOptions,
        runAgent,
        ["--drain-timeout", "0.2s"],
        { CONTROL_URL: url, CONTROL_API_KEY: agentKey },
        join(directory, "agent")
      ),
      ({ log }) => Effect.promise(() => log.line("WireGuard is up"))
    )
    const gateway = yield* startGateway
    const agent = yield* startAgent
    const expose = (tunnel: object) =>
      Effect.promise(async () => {
        const { body, status } = await operator.post("/api/tunnels?wait=serving&timeout=20s", { agentId, ...tunnel })
        assert.strictEqual(status, 201, JSON.stringify(body))
        assert.deepStrictEqual(body.delivery.pending, [])
        return body
      })
    return {
      agentId,
      gatewayId,
      httpPort: gateway.httpPort,
      httpsPort: gateway.httpsPort,
      agent,
      gateway,
      startAgent,
      startGateway,
      expose
    }
  }
)
