/**
 * A client of Control to build an agent or a gateway on: it connects with `control.v1`, authenticates, keeps its view, hands it
 * to `apply`, acknowledges what was applied, and comes back by itself whenever it may.
 */
import type { TunnelReport } from "#schema/agentMessages.ts"
import type { ClientType } from "#schema/ids.ts"
import { Effect, Option, Schema } from "effect"
import { Engine, type Stopped } from "./Engine.ts"
import type { Event } from "./events.ts"
import type { Certificate } from "./Reports.ts"
import type { AgentView, Change, GatewayView, View } from "./view.ts"

export type { TunnelReport } from "#schema/agentMessages.ts"
export type { Stopped } from "./Engine.ts"
export type { Event } from "./events.ts"
export { type Certificate, CertificateRejected, ClientStopped } from "./Reports.ts"
export type { AgentView, Change, Changed, GatewayView } from "./view.ts"

interface CommonOptions<V extends View> {
  /** Control's address, such as `wss://control.example.com`; `type` is added to it. */
  readonly url: string
  /** The client's key; a function is asked before each connection, so that a new key is used without a restart. */
  readonly apiKey: string | (() => string | Promise<string>)
  /**
   * Puts the view into force. Called for every new view, never twice at a time: views that come meanwhile are merged, and the
   * next call gets the newest. Resolving means that the view is in force; throwing means that it is not (the error's `code`,
   * `message` and `tunnelId` are shown to operators), and the next call has its changes again. It must take a view that is
   * already in force.
   */
  readonly apply: (view: V, change: Change) => void | Promise<void>
  /** Where to keep the last good view (mode 0600: it has private keys in it). Without it every start begins from nothing. */
  readonly stateFile?: string
  /** The public key to a private key that never leaves this machine (base64, as `wg` prints it); else Control makes one. */
  readonly wireguardPublicKey?: string
  /** Name and version of the software, for operators; at most 64 characters. */
  readonly clientVersion?: string
  /** For logs. What it throws is ignored. */
  readonly onEvent?: (event: Event) => void
  /** Stops the client, as `close` does. */
  readonly signal?: AbortSignal
}

export interface AgentOptions extends CommonOptions<AgentView> {}

export interface GatewayOptions extends CommonOptions<GatewayView> {
  /** The address on which agents reach this gateway; without it the stored one stays. */
  readonly publicIp?: string
}

interface Client {
  /**
   * Resolves when the client has ended for good: stopped by its owner (code 1000), or by a close code after which it must not
   * come back (4400, 4403, 4409, 4410), or by a server that does not speak control.v1 (400, 1010). Never rejects.
   */
  readonly stopped: Promise<Stopped>
  /** Closes the connection and resolves once an `apply` that is running has ended. What is in force stays so. */
  readonly close: () => Promise<Stopped>
}

export interface AgentClient extends Client {
  /** Says how the tunnels do: the whole list each time. Kept, and said again on every new connection. */
  readonly status: (tunnels: ReadonlyArray<TunnelReport>) => void
}

export interface GatewayClient extends Client {
  /**
   * Hands a certificate to Control; resolves when it is stored there, across reconnects. Rejects with `CertificateRejected`
   * when Control will not have it, and with `ClientStopped` when the client ends first.
   */
  readonly certificateObtained: (certificate: Certificate) => Promise<void>
}

/** Begins at once; nothing is thrown later but through `stopped` and `onEvent`. Throws a `TypeError` for a bad url. */
export const startAgent = (options: AgentOptions): AgentClient => {
  const { apply } = options
  const { client, engine } = start("agent", options, async (view, change) => {
    if (view.type === "agent") await apply(view, change)
  })
  return { ...client, status: (tunnels) => engine.reports.status(tunnels) }
}

/** As `startAgent`. */
export const startGateway = (options: GatewayOptions): GatewayClient => {
  const { apply } = options
  const { client, engine } = start("gateway", options, async (view, change) => {
    if (view.type === "gateway") await apply(view, change)
  })
  return { ...client, certificateObtained: (certificate) => Effect.runPromise(engine.reports.obtained(certificate)) }
}

function start<V extends View>(
  type: ClientType,
  options: CommonOptions<V> & { readonly publicIp?: string },
  apply: (view: View, change: Change) => Promise<void>
): { readonly client: Client; readonly engine: Engine } {
  const { apiKey, onEvent, signal, stateFile } = options
  const engine = new Engine({
    type,
    url: addressOf(options.url, type),
    apiKey: typeof apiKey === "string" ? () => apiKey : apiKey,
    auth: pickAuth(options),
    stateFile,
    apply,
    onEvent: (event) => void Option.getOrUndefined(tell(onEvent, event))
  })
  const stopped = Effect.runPromise(engine.run)
  const abort = () => engine.stop("aborted")
  if (signal?.aborted === true) abort()
  signal?.addEventListener("abort", abort, { once: true })
  void stopped.finally(() => signal?.removeEventListener("abort", abort))
  const close = () => {
    engine.stop("closed")
    return stopped
  }
  return { client: { stopped, close }, engine }
}

const tell = (onEvent: ((event: Event) => void) | undefined, event: Event): Option.Option<void> =>
  Option.liftThrowable(() => onEvent?.(event))()

/** `http` and `https` are taken for `ws` and `wss`. */
function addressOf(given: string, type: ClientType): string {
  const url = new URL(given)
  url.protocol = url.protocol.replace("http", "ws")
  if (url.protocol !== "ws:" && url.protocol !== "wss:") throw new TypeError("expected a ws:// or wss:// address")
  url.searchParams.set("type", type)
  return url.toString()
}

/** Only what is there: a field that is undefined would be a field all the same. */
const pickAuth = Schema.encodeSync(Schema.Struct({
  publicIp: Schema.optionalKey(Schema.String),
  wireguardPublicKey: Schema.optionalKey(Schema.String),
  clientVersion: Schema.optionalKey(Schema.String)
}))
