/** Fields of an http tunnel beyond those of the plain level, for tests that are about other fields. */
export const httpTunnelFields = {
  name: null,
  protocol: "http",
  port: 20_000,
  listenPort: null,
  proxyProtocol: "none",
  tls: "verify"
} as const
