/** Limits of the HTTP front and their defaults. */

export interface HttpLimits {
  /** Bytes of the header section of a request, and of a service's response. */
  readonly maxHeaderBytes: number
  /** Header fields of a request. */
  readonly maxHeaders: number
  /** Bytes of a request body. */
  readonly maxBodyBytes: number
  /** Time for a TLS handshake, and for the header section of a request. */
  readonly headersMillis: number
  /** Time of a visitor's connection without a request. */
  readonly keepAliveMillis: number
  /** Time without a byte of an incomplete request body, before the service answers. */
  readonly bodyIdleMillis: number
  /** Time for the service to answer after the last byte of the request. */
  readonly answerMillis: number
  /** Time without a byte in either direction after the service has begun to answer. */
  readonly idleMillis: number
  /** The same for WebSockets and other upgraded connections. */
  readonly upgradedIdleMillis: number
  /** Time of a pooled connection to a service without a request. Below the 5 s after which many services close. */
  readonly poolIdleMillis: number
  /** Pooled connections of one tunnel without a request. */
  readonly maxIdleConnections: number
  /** Requests of one tunnel at a time; the next one gets 503. */
  readonly maxRequestsPerTunnel: number
  /** Requests of all visitors at a time; the next one gets 503. */
  readonly maxRequests: number
  /** Requests of one visitor at a time (an IPv4 address, or the /64 of an IPv6 address); the next one gets 429. */
  readonly maxRequestsPerVisitor: number
  /** Requests of one HTTP/2 connection at a time. An HTTP/1 connection with more pipelined requests is closed. */
  readonly maxStreams: number
}

export const defaultHttpLimits: HttpLimits = {
  maxHeaderBytes: 32_768,
  maxHeaders: 128,
  maxBodyBytes: Infinity,
  headersMillis: 15_000,
  keepAliveMillis: 75_000,
  bodyIdleMillis: 60_000,
  answerMillis: 120_000,
  idleMillis: 600_000,
  upgradedIdleMillis: 3_600_000,
  poolIdleMillis: 4_000,
  maxIdleConnections: 64,
  maxRequestsPerTunnel: 2_048,
  maxRequests: 16_384,
  maxRequestsPerVisitor: 1_024,
  maxStreams: 128
}
