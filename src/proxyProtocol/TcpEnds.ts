/** The two ends of a TCP connection. */

/** `address` is IPv4 or IPv6 without a zone. */
export interface TcpEnd {
  readonly address: string
  readonly port: number
}

export interface TcpEnds {
  /** The client. */
  readonly source: TcpEnd
  /** The address of the server that the client used. */
  readonly destination: TcpEnd
}
