/** Fields of tunnels and certificates that the protocol and the HTTP API share. */
import { Schema } from "effect"

/** Text as stored. Another application may have written the row, so that only the type is guaranteed. */
export const storedText = (description: string) => Schema.String.annotate({ description })

/** A number of things in a response. */
export const count = (description: string) =>
  Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)).annotate({ description, examples: [2] })

export const tunnelFields = {
  domain: storedText("Public host name."),
  target: storedText("Address to which the agent forwards the traffic: `host:port` or `http(s)://host:port`."),
  enabled: Schema.Boolean.annotate({ description: "A disabled tunnel stays in every view and carries no traffic." })
}

export const TunnelProtocol = Schema.Literals(["http", "tls", "tcp", "udp"]).annotate({
  description:
    "`http`: by Host header and SNI, decrypted at the gateway. `tls`: by SNI, passed through. `tcp` and `udp`: by `listenPort`."
})
export type TunnelProtocol = typeof TunnelProtocol.Type

export const ProxyProtocol = Schema.Literals(["none", "v1", "v2"]).annotate({
  description: "Version of the PROXY header with the visitor's address that the service gets first (`tcp` and `tls`)."
})

export const TargetTls = Schema.Literals(["verify", "insecure"]).annotate({
  description: "Whether the gateway verifies the certificate of an `https://` target against the tunnel's domain."
})

/** Fields of tunnels in `control.v1` beyond the plain ones. */
export const tunnelFieldsV1 = {
  name: Schema.NullOr(Schema.String).annotate({ description: "Unique name; null for a tunnel without one." }),
  domain: storedText("Public host name; empty for a `tcp` or `udp` tunnel without a DNS name."),
  protocol: TunnelProtocol,
  port: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 65_535 })).annotate({
    description:
      "TCP or UDP port at the agent's `virtualIp`, from 20000 to 29999, unique within the agent. It stays for the tunnel's life; 0 in rows without one.",
    examples: [20_000]
  }),
  listenPort: Schema.NullOr(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65_535 })).annotate({ examples: [25_565] })
  ).annotate({
    description: "Public port at the gateways of a `tcp` or `udp` tunnel; null for `http` and `tls`."
  }),
  proxyProtocol: ProxyProtocol,
  tls: TargetTls
}

/** At most 64 KiB, several times the longest chain that public authorities issue. */
const Pem = Schema.String.check(Schema.isBetweenLength(1, 65_536))

/** Certificate and private key in a request. */
export const pemFields = {
  certificate: Pem.annotate({ description: "PEM (RFC 7468): the certificate, followed by its chain." }),
  privateKey: Pem.annotate({ description: "PEM (RFC 7468): the private key of the certificate, unencrypted." })
}
