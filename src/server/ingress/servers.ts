/** Creates the HTTP servers of both ports and computes their connection limits. */
import type { SettingsValues } from "#server/Settings.ts"
import { createServer, type RequestListener, type Server, type ServerOptions } from "node:http"
import { createServer as createTlsServer } from "node:https"
import type { TlsKeyPair } from "./tlsKeyPair.ts"
import { expectProxyHeaders } from "./proxyHeaderPhase.ts"

export type PortName = "ws" | "api"

/** Milliseconds. Slow senders are disconnected, so that they do not use up connections. */
const headerTimeouts = { headersTimeout: 5_000, connectionsCheckingInterval: 1_000 }
const tlsHandshakeTimeout = 5_000

/** Maximum time for receiving a request in milliseconds, and maximum size of its headers in bytes. */
export type RequestLimits = Required<Pick<ServerOptions, "requestTimeout" | "maxHeaderSize">>

/** Creates a server with TLS if there is a key pair, and with PROXY headers before TLS if the settings require them. */
export const makeServer = (
  port: PortName,
  settings: SettingsValues,
  keyPair: TlsKeyPair | undefined,
  limits: RequestLimits,
  listener?: RequestListener
): Server => {
  const options = { ...headerTimeouts, ...limits }
  const server = keyPair === undefined
    ? createServer(options, listener)
    : createTlsServer({ ...options, ...keyPair.options, handshakeTimeout: tlsHandshakeTimeout }, listener)
  if (settings.proxyProtocol === "both" || settings.proxyProtocol === port) expectProxyHeaders(server, settings)
  return server
}

/** File descriptors for the database, files and everything else that is not an incoming connection. */
const reservedDescriptors = 64

/** More simultaneous connections than an API needs. */
const maxApiConnections = 1_000

/** Each port accepts this many connections even if the limit of open files is very low. */
const minConnections = 8

/** Maximum number of open TCP connections of each port. */
export interface ConnectionLimits {
  readonly ws: number
  readonly api: number
}

/**
 * Divides the file descriptors of this process, so that no port starves the other one or the database. The server closes
 * connections above the limit as soon as it has accepted them. Agents and gateways get the configured number of connections
 * and room for connections that are rejected with a response. The limit of open files may reduce both.
 */
export const connectionLimitsOf = (
  { maxConnections, maxUnauthenticated }: Pick<SettingsValues, "maxConnections" | "maxUnauthenticated">,
  openFiles: number
): ConnectionLimits => {
  const api = Math.max(minConnections, Math.min(maxApiConnections, Math.floor(openFiles / 8)))
  return {
    api,
    ws: Math.max(minConnections, Math.min(maxConnections + maxUnauthenticated, openFiles - api - reservedDescriptors))
  }
}

/** Limit of open files of this process; infinite if the system reports none. */
export const openFilesLimit = (): number => {
  // Otherwise the report resolves the host names of all connected peers.
  const reporter = process.report as typeof process.report & { excludeNetwork: boolean }
  const { excludeNetwork } = reporter
  reporter.excludeNetwork = true
  const report = reporter.getReport() as { readonly userLimits?: { readonly open_files?: { readonly soft?: unknown } } }
  reporter.excludeNetwork = excludeNetwork
  const soft = Number(report.userLimits?.open_files?.soft)
  return Number.isFinite(soft) ? soft : Number.POSITIVE_INFINITY
}
