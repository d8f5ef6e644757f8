/** The two servers below the edges, alike in what they do about hostile networks. */
import type { SettingsValues } from "#server/Settings.ts"
import { createServer, type RequestListener, type Server, type ServerOptions } from "node:http"
import { createServer as createTlsServer } from "node:https"
import type { Pair } from "./certificate.ts"
import { expectHeaders } from "./headerPhase.ts"

export type Port = "ws" | "api"

/** Who does not finish in time is cut, so that slow senders hold no places. */
const timeouts = { headersTimeout: 5_000, connectionsCheckingInterval: 1_000 }
const handshakeTimeout = 5_000

/** How long a request may take to come, in milliseconds, and how many bytes its headers may have. */
export type Bounds = Required<Pick<ServerOptions, "requestTimeout" | "maxHeaderSize">>

/** Speaks TLS where there is a pair, and expects headers of the PROXY protocol before it where the settings say so. */
export const makeServer = (
  port: Port,
  settings: SettingsValues,
  pair: Pair | undefined,
  bounds: Bounds,
  answer?: RequestListener
): Server => {
  const all = { ...timeouts, ...bounds }
  const server = pair === undefined
    ? createServer(all, answer)
    : createTlsServer({ ...all, ...pair.options, handshakeTimeout }, answer)
  if (settings.proxyProtocol === "both" || settings.proxyProtocol === port) expectHeaders(server, settings)
  return server
}

/** Descriptors for the database, files, and whatever else is not a connection. */
const reserve = 64

/** More than any API needs at a time. */
const mostApiConnections = 1_000

export interface Places {
  readonly ws: number
  readonly api: number
}

/**
 * How many TCP connections each port may have, so that neither takes the descriptors that the rest of the process lives on:
 * beyond that they are cut as they come. Agents and gateways have as many as the settings say, and those that are refused
 * with an answer besides, if the system allows so many files.
 */
export const placesOf = (
  { maxConnections, maxUnauthenticated }: Pick<SettingsValues, "maxConnections" | "maxUnauthenticated">,
  openFiles: number
): Places => {
  const api = Math.max(8, Math.min(mostApiConnections, Math.floor(openFiles / 8)))
  return { api, ws: Math.max(8, Math.min(maxConnections + maxUnauthenticated, openFiles - api - reserve)) }
}

/** How many files this process may have open; infinite where the system does not say. */
export const openFilesLimit = (): number => {
  // The report would else look up the names of all peers that are connected.
  const reporter = process.report as typeof process.report & { excludeNetwork: boolean }
  const { excludeNetwork } = reporter
  reporter.excludeNetwork = true
  const report = reporter.getReport() as { readonly userLimits?: { readonly open_files?: { readonly soft?: unknown } } }
  reporter.excludeNetwork = excludeNetwork
  const soft = Number(report.userLimits?.open_files?.soft)
  return Number.isFinite(soft) ? soft : Number.POSITIVE_INFINITY
}
