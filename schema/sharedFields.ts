/** What the protocol and the HTTP API both say of a tunnel and of a certificate, once. */
import { Schema } from "effect"

/** Rows are told as they are stored: another application may have written them, so only their type is promised. */
export const stored = (description: string) => Schema.String.annotate({ description })

export const tunnelFields = {
  domain: stored("The public host name."),
  target: stored("Where the agent sends the traffic: `host:port` or `http(s)://host:port`."),
  enabled: Schema.Boolean.annotate({ description: "A disabled tunnel stays in every view and carries no traffic." })
}

/** 64 KiB: several times the longest chain that public authorities issue. */
const Pem = Schema.String.check(Schema.isBetweenLength(1, 65_536))

/** A certificate as it is handed in. */
export const pemFields = {
  certificate: Pem.annotate({ description: "PEM (RFC 7468): the certificate, then its chain." }),
  privateKey: Pem.annotate({ description: "PEM (RFC 7468): the certificate's private key, not encrypted." })
}
