/** Decodes rows of the change log into network changes. A row image is JSON with the column names of its table. */
import { type CannotDecrypt, type Cipher } from "#crypto/Cipher.ts"
import type { Change, Tunnel } from "#network/NetworkState.ts"
import { fieldErrorsOf } from "#schema/fieldErrors.ts"
import { ProxyProtocol, TargetTls, TunnelProtocol } from "#schema/sharedFields.ts"
import { AgentId, GatewayId, IpAddress, Ipv4, Ipv4Cidr, KeyId, Port, Revision, Target, TunnelId } from "#schema/ids.ts"
import { DateTime, Effect, Redacted, Result, Schema } from "effect"
import { UnreadableRow } from "./UnreadableRow.ts"

const AgentImage = Schema.Struct({
  id: AgentId,
  name: Schema.String,
  virtual_ip: Ipv4,
  subnet: Ipv4Cidr,
  wireguard_public_key: Schema.String,
  wireguard_private_key: Schema.NullOr(Schema.String)
})

const GatewayImage = Schema.Struct({
  id: GatewayId,
  name: Schema.String,
  public_ip: Schema.NullOr(IpAddress),
  listen_port: Port,
  slot: Schema.Int,
  /** Absent in images that are older than the column. */
  serves: Schema.optionalKey(
    Schema.NullOr(Schema.Struct({ agents: Schema.Array(AgentId), domains: Schema.Array(Schema.String) }))
  ),
  wireguard_public_key: Schema.String,
  wireguard_private_key: Schema.NullOr(Schema.String)
})

const TunnelImage = Schema.Struct({
  id: TunnelId,
  agent_id: AgentId,
  domain: Schema.NullOr(Schema.String),
  target: Target,
  enabled: Schema.Boolean,
  /** Absent in images that are older than the columns. */
  name: Schema.optionalKey(Schema.NullOr(Schema.String)),
  protocol: Schema.optionalKey(TunnelProtocol),
  port: Schema.optionalKey(Schema.NullOr(Schema.Int)),
  listen_port: Schema.optionalKey(Schema.NullOr(Port)),
  proxy_protocol: Schema.optionalKey(ProxyProtocol),
  tls: Schema.optionalKey(TargetTls)
})

const CertificateImage = Schema.Struct({
  domain: Schema.String,
  certificate: Schema.String,
  private_key: Schema.String,
  expires_at: Schema.DateTimeUtcFromString,
  /** Absent in images that are older than the column. */
  withheld: Schema.optionalKey(Schema.NullOr(Schema.Boolean))
})

const KeyImage = Schema.Union([
  Schema.Struct({ id: KeyId, agent_id: AgentId, gateway_id: Schema.Null, hash: Schema.String }),
  Schema.Struct({ id: KeyId, agent_id: Schema.Null, gateway_id: GatewayId, hash: Schema.String })
])

const putRow = <const Entity extends string, Image extends Schema.Top>(entity: Entity, image: Image) =>
  Schema.Struct({
    revision: Revision,
    entity: Schema.Literal(entity),
    op: Schema.Literal("put"),
    entity_id: Schema.String,
    row_image: image
  })

const deleteRow = <const Entity extends string, Id extends Schema.Top>(entity: Entity, id: Id) =>
  Schema.Struct({ revision: Revision, entity: Schema.Literal(entity), op: Schema.Literal("delete"), entity_id: id })

const ChangeRow = Schema.Union([
  putRow("agent", AgentImage),
  putRow("gateway", GatewayImage),
  putRow("tunnel", TunnelImage),
  putRow("certificate", CertificateImage),
  putRow("key", KeyImage),
  deleteRow("agent", AgentId),
  deleteRow("gateway", GatewayId),
  deleteRow("tunnel", TunnelId),
  deleteRow("certificate", Schema.String),
  deleteRow("key", KeyId)
])
type ChangeRow = typeof ChangeRow.Type

/** Decodes one row of `changes` and decrypts its secrets. */
export const decodeChange = (row: Record<string, unknown>, cipher: Cipher): Result.Result<Change, UnreadableRow> => {
  const unreadable = (reason: string) =>
    new UnreadableRow({ entity: String(row.entity), id: String(row.entity_id), reason })
  return Result.flatMap(
    Result.mapError(decodeRow(row), ({ issue }) => unreadable(reasonOf(fieldErrorsOf(issue)))),
    (decoded) =>
      decoded.op === "put"
        ? Result.mapError(toPutChange(decoded, cipher), (error) => unreadable(error.message))
        : Result.succeed(toRemovedChange(decoded))
  )
}

const decodeRow = Schema.decodeUnknownResult(ChangeRow, { errors: "all" })

/** Names the columns without their values. */
function reasonOf(errors: ReturnType<typeof fieldErrorsOf>): string {
  const columns = new Set(
    errors.flatMap(({ path }) => path.startsWith("row_image.") ? [path.slice("row_image.".length)] : [])
  )
  return columns.size === 0
    ? "the row does not have the columns that this version expects"
    : `this version does not understand ${[...columns].join(", ")}`
}

/** Unreadable rows of one reading that are logged by name; the doctor reports all of them. */
const maxLoggedRows = 1_000

/**
 * Decodes rows and skips unreadable ones, so that one damaged row does not block all others. `skipped` is the number of rows
 * that the same reading has skipped before.
 */
export const decodeReadable = Effect.fnUntraced(
  function*(rows: ReadonlyArray<Record<string, unknown>>, cipher: Cipher, skipped = 0) {
    const changes: Array<Change> = []
    const unreadable: Array<UnreadableRow> = []
    for (const row of rows) {
      const change = decodeChange(row, cipher)
      if (Result.isSuccess(change)) {
        changes.push(change.success)
        continue
      }
      unreadable.push(change.failure)
      const count = skipped + unreadable.length
      if (count <= maxLoggedRows) {
        yield* Effect.logError(
          `skipped an unreadable row at revision ${row["revision"]}: ${change.failure.message}; run "control doctor"`
        )
      } else if (count === maxLoggedRows + 1) {
        yield* Effect.logError(`skipped more than ${maxLoggedRows} unreadable rows; run "control doctor"`)
      }
    }
    return { changes, unreadable }
  }
)

function toPutChange(row: Extract<ChangeRow, { op: "put" }>, cipher: Cipher): Result.Result<Change, CannotDecrypt> {
  const { revision } = row
  const decrypt = (table: string, column: string, id: string, stored: string) =>
    Result.map(cipher.decrypt(stored, { table, column, row: id }), (text) => Redacted.make(text))
  const decryptOptional = (table: string, id: string, stored: string | null) =>
    stored === null ? Result.succeed(null) : decrypt(table, "wireguard_private_key", id, stored)
  switch (row.entity) {
    case "agent": {
      const { id, name, subnet, virtual_ip: virtualIp, wireguard_public_key: wireguardPublicKey } = row.row_image
      return Result.map(
        decryptOptional("agents", id, row.row_image.wireguard_private_key),
        (wireguardPrivateKey): Change => ({
          _tag: "AgentPut",
          revision,
          agent: { id, name, virtualIp, subnet, wireguardPublicKey, wireguardPrivateKey }
        })
      )
    }
    case "gateway": {
      return Result.map(
        decryptOptional("gateways", row.row_image.id, row.row_image.wireguard_private_key),
        (wireguardPrivateKey): Change => ({
          _tag: "GatewayPut",
          revision,
          gateway: { ...gatewayOf(row.row_image), wireguardPrivateKey }
        })
      )
    }
    case "tunnel": {
      return Result.succeed({ _tag: "TunnelPut", revision, tunnel: tunnelOf(row.row_image) })
    }
    case "certificate": {
      const { domain, certificate } = row.row_image
      // A withheld certificate stays stored, and no client sees it.
      if (row.row_image.withheld === true) return Result.succeed({ _tag: "CertificateRemoved", revision, domain })
      const expiresAt = DateTime.formatIso(row.row_image.expires_at)
      return Result.map(
        decrypt("certificates", "private_key", domain, row.row_image.private_key),
        (privateKey): Change => ({
          _tag: "CertificatePut",
          revision,
          certificate: { domain, certificate, privateKey, expiresAt }
        })
      )
    }
    case "key": {
      const { id, hash } = row.row_image
      const owner = row.row_image.agent_id === null
        ? { type: "gateway" as const, id: row.row_image.gateway_id }
        : { type: "agent" as const, id: row.row_image.agent_id }
      return Result.succeed({ _tag: "KeyPut", revision, key: { id, hash, owner } })
    }
  }
}

function tunnelOf(row: typeof TunnelImage.Type): Tunnel {
  const { agent_id: agentId, domain, enabled, id, name = null, port, target } = row
  return {
    id,
    agentId,
    name,
    domain: domain ?? "",
    target,
    enabled,
    protocol: row.protocol ?? "http",
    port: port ?? 0,
    listenPort: row.listen_port ?? null,
    proxyProtocol: row.proxy_protocol ?? "none",
    tls: row.tls ?? "verify"
  }
}

function gatewayOf(image: typeof GatewayImage.Type) {
  const { id, listen_port: listenPort, name, public_ip: publicIp, slot, wireguard_public_key: wireguardPublicKey } =
    image
  return { id, name, publicIp, listenPort, slot, serves: scopeOf(image.serves), wireguardPublicKey }
}

function scopeOf(image: (typeof GatewayImage.Type)["serves"]) {
  return image == null ? null : { agents: new Set(image.agents), domains: new Set(image.domains) }
}

function toRemovedChange(row: Extract<ChangeRow, { op: "delete" }>): Change {
  const { revision } = row
  switch (row.entity) {
    case "agent":
      return { _tag: "AgentRemoved", revision, id: row.entity_id }
    case "gateway":
      return { _tag: "GatewayRemoved", revision, id: row.entity_id }
    case "tunnel":
      return { _tag: "TunnelRemoved", revision, id: row.entity_id }
    case "certificate":
      return { _tag: "CertificateRemoved", revision, domain: row.entity_id }
    case "key":
      return { _tag: "KeyRemoved", revision, id: row.entity_id }
  }
}
