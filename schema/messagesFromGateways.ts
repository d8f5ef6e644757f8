/** Messages that gateways send. */
import { Schema } from "effect"
import { Ack, ApiKey, authFieldsV1, Heartbeat, Nack, Resync } from "./messagesFromClients.ts"
import { message } from "./envelope.ts"
import { pemFields } from "./sharedFields.ts"
import { StatusV1 } from "./statusMessage.ts"
import { HostName, HostNameFromInput, IpAddress, Revision, Timeline, Timestamp } from "./ids.ts"

export const GatewayAuth = message(
  "auth",
  "Authentication, with the gateway's public address. The first message on every connection.",
  {
    apiKey: ApiKey,
    publicIp: Schema.optionalKey(Schema.Union([IpAddress, Schema.Literal("")])).annotate({
      description: "Replaces the stored address. If omitted or empty, the stored address stays."
    })
  },
  { apiKey: "ctl_gw_9kQ2m5Zr1BnC_EXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLE", publicIp: "203.0.113.7" }
).annotate({ identifier: "auth_gateway" })

export const CertificateObtained = message(
  "certificate_obtained",
  "New certificate for a domain. Control stores the certificate and sends it to every gateway in a `config`, or answers with an `error`. In `control.v1`, a delta delivers the certificate, and `certificate_accepted` is the receipt.",
  {
    domain: HostNameFromInput,
    ...pemFields,
    expiresAt: Timestamp.annotate({
      description: "Time of expiry (RFC 3339); must match the certificate."
    })
  },
  {
    domain: HostName.make("app.example.com"),
    certificate: "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n",
    privateKey: "-----BEGIN PRIVATE KEY-----\n…\n-----END PRIVATE KEY-----\n",
    expiresAt: "2026-05-01T12:00:00.000Z"
  }
)

export const GatewayAuthV1 = message(
  "auth",
  "Authentication, with the gateway's public address and the position to resume from. The first message on every connection.",
  { ...GatewayAuth.fields.data.fields, ...authFieldsV1 },
  {
    apiKey: "ctl_gw_9kQ2m5Zr1BnC_EXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLE",
    publicIp: "203.0.113.7",
    resume: { timeline: Timeline.make("6b0c2a52-9f7e-4d57-8a54-3f6a4b1c7d10"), revision: Revision.make(57) },
    clientVersion: "my-gateway/1.0.0"
  }
).annotate({ identifier: "auth_gateway_v1" })

export const GatewayMessage = Schema.Union([GatewayAuth, Heartbeat, CertificateObtained])
export type GatewayMessage = typeof GatewayMessage.Type

export const GatewayMessageV1 = Schema.Union([
  GatewayAuthV1,
  Heartbeat,
  StatusV1,
  CertificateObtained,
  Ack,
  Nack,
  Resync
])
export type GatewayMessageV1 = typeof GatewayMessageV1.Type
