/** Seeds a network of a given size in one transaction. */
import { hashApiKey } from "#crypto/apiKeys.ts"
import { makeCipher } from "#crypto/Cipher.ts"
import { agentAddress } from "#network/addresses.ts"
import { Array as Arrays, Effect, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes, randomUUID } from "node:crypto"

export interface NetworkSize {
  readonly agents: number
  readonly gateways: number
  readonly tunnels: number
  /** Number of the tunnels that have a certificate; none by default. */
  readonly certificates?: number
}

export interface Tunnel {
  readonly id: string
  readonly domain: string
  readonly agentVirtualIp: string
}

export interface SeededNetwork {
  readonly agentKeys: ReadonlyArray<string>
  readonly gatewayKeys: ReadonlyArray<string>
  readonly agentIds: ReadonlyArray<string>
  readonly tunnels: ReadonlyArray<Tunnel>
}

/** Creates a random API key of the same length as a real one. */
const randomApiKey = (prefix: string): string =>
  `${prefix}_${randomBytes(9).toString("hex").slice(0, 12)}_${randomBytes(32).toString("base64url")}`

/** Has 131,072 subnets and begins like the default pool, which has 16,384. Control reads existing addresses only. */
const addressPool = "10.64.0.0/7"

/** Bounds one parameter to a few megabytes. */
const rowsPerInsert = 5_000

/** As large as a Let's Encrypt chain with its key. Control stores, and does not parse, what the seed wrote. */
const certificateText = `-----BEGIN CERTIFICATE-----\n${`${"A".repeat(64)}\n`.repeat(50)}-----END CERTIFICATE-----\n`
const privateKeyText = `-----BEGIN PRIVATE KEY-----\n${`${"A".repeat(64)}\n`.repeat(4)}-----END PRIVATE KEY-----\n`

/**
 * Writes the rows without triggers and therefore without change log entries, because Control starts later. Disabling triggers
 * requires a superuser.
 */
export const seedNetwork = Effect.fnUntraced(function*(size: NetworkSize, masterKey: string) {
  const sql = yield* SqlClient.SqlClient
  const { encrypt } = makeCipher(Redacted.make(masterKey))
  const wireguard = (table: string, id: string) => ({
    wireguard_public_key: randomBytes(32).toString("base64"),
    wireguard_private_key: encrypt(randomBytes(32).toString("base64"), {
      table,
      column: "wireguard_private_key",
      row: id
    })
  })

  const agents = Array.from({ length: size.agents }, (_, index) => {
    const id = randomUUID()
    const address = agentAddress(addressPool, index)
    if (address === undefined) throw new Error(`the address pool has no subnet for agent ${index}`)
    return {
      id,
      name: `agent ${index}`,
      subnet_index: index,
      subnet: address.subnet,
      virtual_ip: address.virtualIp,
      ...wireguard("agents", id)
    }
  })
  const gateways = Array.from({ length: size.gateways }, (_, index) => {
    const id = randomUUID()
    return {
      id,
      name: `gateway ${index}`,
      public_ip: `198.51.100.${index % 250}`,
      slot: index,
      ...wireguard("gateways", id)
    }
  })
  const tunnels = Array.from({ length: size.tunnels }, (_, index) => ({
    id: randomUUID(),
    agent_id: agents[index % agents.length]?.id ?? "",
    domain: `app-${String(index).padStart(5, "0")}.example.com`,
    target: "localhost:10000",
    revision: 0
  }))
  const agentKeys = agents.map(() => randomApiKey("ctl_agt"))
  const gatewayKeys = gateways.map(() => randomApiKey("ctl_gw"))
  const keys = [
    ...agents.map(({ id }, index) => ({
      id: randomUUID(),
      agent_id: id,
      gateway_id: null,
      hash: hashApiKey(agentKeys[index] ?? "")
    })),
    ...gateways.map(({ id }, index) => ({
      id: randomUUID(),
      agent_id: null,
      gateway_id: id,
      hash: hashApiKey(gatewayKeys[index] ?? "")
    }))
  ]

  const certificates = tunnels.slice(0, size.certificates ?? 0).map(({ domain }) => ({
    domain,
    certificate: certificateText,
    private_key: encrypt(privateKeyText, { table: "certificates", column: "private_key", row: domain }),
    expires_at: "2099-01-01T00:00:00Z"
  }))

  const insert = (table: string, rows: ReadonlyArray<Record<string, unknown>>) => {
    const columns = Object.keys(rows[0] ?? {}).join(", ")
    const statement =
      `insert into ${table} (${columns}) select ${columns} from jsonb_populate_recordset(null::${table}, $1::jsonb)`
    return Effect.forEach(
      Arrays.chunksOf(rows, rowsPerInsert),
      (chunk) => sql.unsafe(statement, [JSON.stringify(chunk)]),
      { discard: true }
    )
  }
  yield* sql.withTransaction(Effect.gen(function*() {
    yield* sql`set local session_replication_role = replica`
    yield* insert("agents", agents)
    yield* insert("gateways", gateways)
    yield* insert("tunnels", tunnels)
    yield* insert("certificates", certificates)
    yield* insert("api_keys", keys)
  }))
  yield* sql.unsafe("vacuum analyze")

  const addressOf = new Map<string, string>(agents.map(({ id, virtual_ip }) => [id, virtual_ip]))
  const seeded: SeededNetwork = {
    agentKeys,
    gatewayKeys,
    agentIds: agents.map(({ id }) => id),
    tunnels: tunnels.map(({ agent_id, domain, id }) => ({ id, domain, agentVirtualIp: addressOf.get(agent_id) ?? "" }))
  }
  return seeded
})
