/** Divides the file descriptors of this process among its pools of connections, and each pool among its holders. */
import type { QuotaLimits } from "#rateLimit/Quota.ts"
import { Settings, type SettingsValues } from "#server/Settings.ts"
import { Context, Effect } from "effect"

/** File descriptors for the database, files and everything else that is not an incoming connection. */
const reservedDescriptors = 64

/** More simultaneous connections than an API needs. */
const maxApiConnections = 2_000

/** Each port accepts this many connections even if the limit of open files is very low. */
const minConnections = 8

export interface ConnectionLimits {
  readonly ws: {
    /** Open TCP connections. */
    readonly connections: number
    /** TCP connections that have sent no complete request yet. */
    readonly silent: QuotaLimits
    /** Open WebSockets. */
    readonly open: number
    /** WebSockets that have not authenticated yet. */
    readonly unauthenticated: QuotaLimits
  }
  readonly api: {
    readonly connections: number
    /** TCP connections, or requests in progress: both have the same limits. The reserve is for this machine. */
    readonly places: QuotaLimits
    /** Connections of the Unix socket. */
    readonly local: number
  }
}

type LimitSettings = Pick<SettingsValues, "maxConnections" | "maxUnauthenticated" | "maxUnauthenticatedPerIp">

/**
 * Computes every limit, so that no port starves the other one or the database, no pool of a port starves another one, and no
 * address takes more than half of a pool. Agents and gateways get the configured numbers of connections, unless the limit of
 * open files allows fewer.
 */
export const connectionLimitsOf = (
  { maxConnections, maxUnauthenticated, maxUnauthenticatedPerIp }: LimitSettings,
  openFiles: number
): ConnectionLimits => {
  const api = Math.max(minConnections, Math.min(maxApiConnections, Math.floor(openFiles / 8)))
  const ws = Math.max(
    minConnections,
    Math.min(maxConnections + maxUnauthenticated, openFiles - api - reservedDescriptors)
  )
  const silent = Math.min(maxUnauthenticated, Math.max(1, Math.floor(ws / 4)))
  const open = Math.min(maxConnections, ws - silent)
  const unauthenticated = Math.min(maxUnauthenticated, Math.max(1, Math.floor(open / 2)))
  const shareOf = (total: number) => ({ total, perHolder: Math.min(maxUnauthenticatedPerIp, halfOf(total)) })
  return {
    ws: { connections: ws, silent: shareOf(silent), open, unauthenticated: shareOf(unauthenticated) },
    api: {
      connections: api,
      places: { total: api, perHolder: halfOf(api), reserved: Math.floor(api / 8) },
      local: Math.max(minConnections, Math.floor(api / 8))
    }
  }
}

const halfOf = (total: number): number => Math.max(1, Math.floor(total / 2))

/** Limit of open files of this process; infinite if the system reports none. */
const readOpenFiles = (): number => {
  // Otherwise the report resolves the host names of all connected peers.
  const reporter = process.report as typeof process.report & { excludeNetwork: boolean }
  const { excludeNetwork } = reporter
  reporter.excludeNetwork = true
  const report = reporter.getReport() as { readonly userLimits?: { readonly open_files?: { readonly soft?: unknown } } }
  reporter.excludeNetwork = excludeNetwork
  const soft = Number(report.userLimits?.open_files?.soft)
  return Number.isFinite(soft) ? soft : Number.POSITIVE_INFINITY
}

/** Limit of open files of this process. */
export const OpenFiles = Context.Reference<number>("control/ingress/OpenFiles", { defaultValue: readOpenFiles })

/** The limits of this process. */
export const currentLimits: Effect.Effect<ConnectionLimits, never, Settings> = Effect.gen(function*() {
  return connectionLimitsOf(yield* Settings, yield* OpenFiles)
})
