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
  /** Requests of one HTTP/2 connection at a time. */
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
  maxStreams: 128
}
