/** Creates the HTTP servers of both ports. */
import { Quota } from "#rateLimit/Quota.ts"
import type { SettingsValues } from "#server/Settings.ts"
import { createServer, type RequestListener, type Server } from "node:http"
import { createServer as createTlsServer } from "node:https"
import type { TlsKeyPair } from "./tlsKeyPair.ts"
import { guardConnections } from "./ConnectionGate.ts"
import type { ConnectionLimits } from "./connectionLimits.ts"
import { expectProxyHeaders } from "./proxyHeaderPhase.ts"
import { headerTimeouts, type RequestLimits } from "./requestLimits.ts"

export type PortName = "ws" | "api"

/** Milliseconds. */
const tlsHandshakeTimeout = 5_000

/**
 * Creates a server with TLS if there is a key pair, and with PROXY headers before TLS if the settings require them. One address
 * holds only its share of the connections: at the WebSocket port of those without a request, at the API port of all.
 */
export const makeServer = (
  port: PortName,
  settings: SettingsValues,
  keyPair: TlsKeyPair | undefined,
  connections: ConnectionLimits,
  limits: RequestLimits,
  listener?: RequestListener
): Server => {
  const options = { ...headerTimeouts, ...limits }
  const places = port === "ws" ? connections.ws.silent : connections.api.places
  const server = keyPair === undefined
    ? createServer(options, listener)
    : createTlsServer({ ...options, ...keyPair.options, handshakeTimeout: tlsHandshakeTimeout }, listener)
  guardConnections(server, new Quota(places), settings)
  if (settings.proxyProtocol === "both" || settings.proxyProtocol === port) expectProxyHeaders(server, settings, places)
  return server
}
