/** Limits on single requests, of both ports and the Unix socket. */
import type { ServerOptions } from "node:http"

/** Milliseconds. Slow senders are disconnected, so that they do not use up connections. */
export const headerTimeouts = { headersTimeout: 5_000, connectionsCheckingInterval: 1_000 }

/** Maximum time for receiving a request in milliseconds, and maximum size of its headers in bytes. */
export type RequestLimits = Required<Pick<ServerOptions, "requestTimeout" | "maxHeaderSize">>
