/** Client library for agents and gateways: keeps a connection to Control and applies its views. */
import type { ClientType } from "#schema/ids.ts"
import type { PeerReport, TunnelReportV1 as TunnelReport } from "#schema/statusMessage.ts"
import { Effect, Option, Schema } from "effect"
import type { ClientEvent } from "./clientEvents.ts"
import { ReconnectingClient, type Stopped } from "./ReconnectingClient.ts"
import type { Certificate, ReportSender } from "./ReportSender.ts"
import type { AgentView, Change, GatewayView, View } from "./view.ts"

export type { PeerReport, TunnelReportV1 as TunnelReport } from "#schema/statusMessage.ts"
export type { ClientEvent } from "./clientEvents.ts"
export type { ConnectionProblem } from "./connectionProblem.ts"
export type { Stopped } from "./ReconnectingClient.ts"
export { type Certificate, CertificateRejected, ClientStopped } from "./ReportSender.ts"
export type { AgentView, Change, GatewayView, RowChange } from "./view.ts"

interface CommonOptions<V extends View> {
  /** Address of Control, for example `wss://control.example.com`. The client adds the query parameter `type`. */
  readonly url: string
  /** The client's API key. A function is called before each connection, so that a new key needs no restart. */
  readonly apiKey: string | (() => string | Promise<string>)
  /**
   * Whether the client continues after Control has rejected the API key (4401), with an attempt every 1 to 5 minutes. By default
   * it stops, so that the program ends and its supervisor shows why. Set it where `apiKey` returns a new key later.
   */
  readonly retryAuth?: boolean
  /**
   * Applies a view, for example to WireGuard. It is called for every new view, one call at a time. Views that arrive during a
   * call are merged, and the next call gets the newest. It must accept a view that is already applied.
   *
   * Returning or resolving acknowledges the view. Throwing rejects it: operators see the error's `code`, `message` and
   * `tunnelId`, and the next call contains the rejected changes again.
   */
  readonly apply: (view: V, change: Change) => void | Promise<void>
  /** File for the last applied view, mode 0600, because it contains private keys. Without it every start begins empty. */
  readonly stateFile?: string
  /** Public key (base64, as printed by `wg`) whose private key stays on this machine. Without it Control creates the keys. */
  readonly wireguardPublicKey?: string
  /** Name and version of the software, shown to operators; at most 64 characters. */
  readonly clientVersion?: string
  /** Receives events for logs. Errors that it throws are ignored. */
  readonly onEvent?: (event: ClientEvent) => void
  /** Stops the client when aborted, like `close`. */
  readonly signal?: AbortSignal
}

export interface AgentOptions extends CommonOptions<AgentView> {}

export interface GatewayOptions extends CommonOptions<GatewayView> {
  /** Public address at which agents reach this gateway. Without it the stored address stays. */
  readonly publicIp?: string
}

interface Client {
  /**
   * Resolves when the client has stopped for good. `code` is 1000 if the application stopped it, a close code after which it
   * must not reconnect (4400, 4401 unless `retryAuth`, 4403, 4409, 4410), or 400 or 1010 if the server does not support control.v1. Never rejects.
   */
  readonly stopped: Promise<Stopped>
  /** Closes the connection, and resolves when a running `apply` has ended. What is applied stays applied. */
  readonly close: () => Promise<Stopped>
  /**
   * Reports the state of all tunnels, and facts about the WireGuard peers. The client keeps both lists, sends what has changed
   * with the applied revision, and sends everything again on every new connection. Peers are sent at most every 10 s.
   */
  readonly reportStatus: (tunnels: ReadonlyArray<TunnelReport>, peers?: ReadonlyArray<PeerReport>) => void
}

export interface AgentClient extends Client {}

export interface GatewayClient extends Client {
  /**
   * Sends a certificate to Control, and again after reconnects. Resolves when Control has stored the certificate. Rejects with
   * `CertificateRejected` if Control rejects it, and with `ClientStopped` if the client stops first.
   */
  readonly submitCertificate: (certificate: Certificate) => Promise<void>
}

/**
 * Starts a client for an agent, which connects at once. Throws a `TypeError` for an invalid `url`; later failures are
 * reported by `onEvent` and `stopped`.
 *
 * @example
 * const client = startAgent({ url: "wss://control.example.com", apiKey, apply: (view) => configureWireGuard(view) })
 */
export const startAgent = (options: AgentOptions): AgentClient => {
  const { apply } = options
  return start("agent", options, async (view, change) => {
    if (view.type === "agent") await apply(view, change)
  }).client
}

/** Starts a client for a gateway; see `startAgent`. */
export const startGateway = (options: GatewayOptions): GatewayClient => {
  const { apply } = options
  const { client, reports } = start("gateway", options, async (view, change) => {
    if (view.type === "gateway") await apply(view, change)
  })
  return {
    ...client,
    submitCertificate: (certificate) => Effect.runPromise(reports.submitCertificate(certificate))
  }
}

function start<V extends View>(
  type: ClientType,
  options: CommonOptions<V> & { readonly publicIp?: string },
  apply: (view: View, change: Change) => Promise<void>
): { readonly client: Client; readonly reports: ReportSender } {
  const { apiKey, onEvent, signal, stateFile } = options
  const client = new ReconnectingClient({
    type,
    url: connectUrl(options.url, type),
    apiKey: typeof apiKey === "string" ? () => apiKey : apiKey,
    auth: pickAuthFields(options),
    retryAuth: options.retryAuth === true,
    stateFile,
    apply,
    onEvent: (event) => void Option.getOrUndefined(emit(onEvent, event))
  })
  const stopped = Effect.runPromise(client.run)
  const abort = () => client.stop("aborted")
  if (signal?.aborted === true) abort()
  signal?.addEventListener("abort", abort, { once: true })
  void stopped.finally(() => signal?.removeEventListener("abort", abort))
  const close = () => {
    client.stop("closed")
    return stopped
  }
  const reportStatus: Client["reportStatus"] = (tunnels, peers) => client.reports.setStatus(tunnels, peers)
  return { client: { stopped, close, reportStatus }, reports: client.reports }
}

const emit = (onEvent: ((event: ClientEvent) => void) | undefined, event: ClientEvent): Option.Option<void> =>
  Option.liftThrowable(() => onEvent?.(event))()

/** Adds `type` to the query. `http` and `https` become `ws` and `wss`. */
function connectUrl(address: string, type: ClientType): string {
  const url = new URL(address)
  url.protocol = url.protocol.replace("http", "ws")
  if (url.protocol !== "ws:" && url.protocol !== "wss:") throw new TypeError("expected a ws:// or wss:// address")
  url.searchParams.set("type", type)
  return url.toString()
}

/** Omits missing fields, because `undefined` is not a valid value of a field. */
const pickAuthFields = Schema.encodeSync(Schema.Struct({
  publicIp: Schema.optionalKey(Schema.String),
  wireguardPublicKey: Schema.optionalKey(Schema.String),
  clientVersion: Schema.optionalKey(Schema.String)
}))
