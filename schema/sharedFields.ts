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

/** At most 64 KiB, several times the longest chain that public authorities issue. */
const Pem = Schema.String.check(Schema.isBetweenLength(1, 65_536))

/** Certificate and private key in a request. */
export const pemFields = {
  certificate: Pem.annotate({ description: "PEM (RFC 7468): the certificate, followed by its chain." }),
  privateKey: Pem.annotate({ description: "PEM (RFC 7468): the private key of the certificate, unencrypted." })
}
