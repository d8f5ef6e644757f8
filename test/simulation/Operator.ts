/** Operators that change the network through a node's services or by SQL. */
import { Agents } from "#services/Agents.ts"
import { Certificates } from "#services/Certificates.ts"
import { ApiKeys } from "#services/ApiKeys.ts"
import { Gateways } from "#services/Gateways.ts"
import { AgentId, type ClientRef, HostName, KeyId, TunnelId } from "#schema/ids.ts"
import type { GatewayPatch } from "#schema/resources.ts"
import type { TunnelPatch } from "#schema/tunnelResources.ts"
import { Tunnels } from "#services/Tunnels.ts"
import { Effect, Exit, Redacted } from "effect"
import { domains, operatorCertificates } from "./certificates.ts"
import type { Services } from "./Node.ts"
import type { Random } from "./Random.ts"
import type { SimulationContext } from "./SimulationContext.ts"
import type { Rows } from "./databaseTables.ts"
import { ConstraintViolated, type Transaction } from "./Transaction.ts"

export class Operator {
  readonly #simulation: SimulationContext
  #created = 0

  constructor(simulation: SimulationContext) {
    this.#simulation = simulation
  }

  createAgent(): void {
    this.#request(
      Effect.flatMap(Agents, (agents) => agents.create({ name: this.#nextName() })),
      ({ agent, apiKey }) => {
        this.#simulation.addKey({ type: "agent", id: agent.id }, Redacted.value(apiKey))
      }
    )
  }

  createGateway(): void {
    const publicIp = this.#created % 2 === 0 ? null : `198.51.100.${this.#created}`
    const create = Effect.flatMap(Gateways, (gateways) => gateways.create({ name: this.#nextName(), publicIp }))
    this.#request(create, ({ apiKey, gateway }) => {
      this.#simulation.addKey({ type: "gateway", id: gateway.id }, Redacted.value(apiKey))
    })
  }

  createTunnel(random: Random): void {
    const agentId = this.#pickAgentId(random)
    const domain = HostName.make(random.pick(domains) ?? domains[0])
    const tunnel = { agentId, domain, ...randomTarget(random), enabled: random.chance(0.8) }
    this.#request(Effect.flatMap(Tunnels, (tunnels) => tunnels.create(tunnel)))
  }

  updateTunnel(random: Random): void {
    const id = this.#pickId("tunnel", random)
    const patch: TunnelPatch = random.weighted<TunnelPatch>([
      [3, randomTarget(random)],
      [2, { enabled: random.chance(0.5) }],
      [3, { agentId: this.#pickAgentId(random) }],
      [1, { domain: HostName.make(random.pick(domains) ?? domains[0]) }]
    ]) ?? {}
    this.#request(Effect.flatMap(Tunnels, (tunnels) => tunnels.update(TunnelId.make(id), patch)))
  }

  removeTunnel(random: Random): void {
    const id = this.#pickId("tunnel", random)
    this.#request(Effect.flatMap(Tunnels, (tunnels) => tunnels.remove(TunnelId.make(id))))
  }

  renameAgent(random: Random): void {
    const id = this.#pickAgentId(random)
    this.#request(Effect.flatMap(Agents, (agents) => agents.update(id, { name: this.#nextName() })))
  }

  removeClient(ref: ClientRef, cascade: boolean): void {
    if (ref.type === "agent") this.#request(Effect.flatMap(Agents, (agents) => agents.remove(ref.id, { cascade })))
    else this.#request(Effect.flatMap(Gateways, (gateways) => gateways.remove(ref.id)))
  }

  updateGateway(random: Random): void {
    const ref = this.#pickClient("gateway", random)
    if (ref?.type !== "gateway") return
    const patch = random.weighted<GatewayPatch>([
      [3, { serves: this.#drawScope(random) }],
      [1, { serves: null }],
      [2, { name: this.#nextName() }],
      [2, { publicIp: `198.51.100.${random.between(1, 9)}` }],
      [1, { publicIp: null }],
      [1, { listenPort: random.between(51_820, 51_822) }]
    ]) ?? {}
    this.#request(Effect.flatMap(Gateways, (gateways) => gateways.update(ref.id, patch)))
  }

  createKey(ref: ClientRef): void {
    this.#request(Effect.flatMap(ApiKeys, (keys) => keys.create(ref)), ({ apiKey }) => {
      const key = this.#simulation.addKey(ref, Redacted.value(apiKey))
      // The key's owner uses the new key from its next connection.
      const client = this.#simulation.clients.find((other) => other.key.ref.id === ref.id)
      if (client !== undefined) client.key = key
    })
  }

  revokeKey(random: Random): void {
    const key = random.pick([...this.#simulation.database.tables.key.values()])
    if (key === undefined) return
    this.#request(Effect.flatMap(ApiKeys, (keys) => keys.revoke(key.owner, KeyId.make(key.id))))
  }

  putCertificate(random: Random): void {
    const issued = random.pick(operatorCertificates())
    if (issued === undefined) return
    const { certificate, domain, privateKey } = issued
    this.#request(Effect.flatMap(Certificates, (all) => all.put(HostName.make(domain), { certificate, privateKey })))
  }

  removeCertificate(random: Random): void {
    const domain = HostName.make(this.#pickId("certificate", random))
    this.#request(Effect.flatMap(Certificates, (all) => all.remove(domain)))
  }

  /** Runs up to four statements in one transaction, as an operator with psql would. */
  changeBySql(random: Random): void {
    const { database, world } = this.#simulation
    if (database.faults.mode !== "up") return
    try {
      database.transact((tx) => {
        for (let left = random.between(1, 4); left > 0; left--) this.#runStatement(tx, random)
      })
    } catch (error) {
      if (!(error instanceof ConstraintViolated)) throw error
      world.trace(() => `  rolled back: ${error.message}`)
    }
  }

  #runStatement(tx: Transaction, random: Random): void {
    const pick = <Row>(table: ReadonlyMap<string, Row>) => random.pick([...table.values()])
    const agent = pick(tx.tables.agent)
    const gateway = pick(tx.tables.gateway)
    const tunnel = pick(tx.tables.tunnel)
    const key = pick(tx.tables.key)
    const certificate = pick(tx.tables.certificate)
    const number = random.between(1, 9)
    const statements: ReadonlyArray<readonly [number, () => void]> = [
      [3, () => tunnel && tx.put("tunnel", { ...tunnel, target: `localhost:${9_000 + number}` })],
      [2, () => tunnel && agent && tx.put("tunnel", { ...tunnel, agentId: agent.id })],
      [2, () => tunnel && tx.remove("tunnel", tunnel.id)],
      [2, () => agent && tx.put("tunnel", tunnelOf(agent.id, number))],
      [1, () => tunnel && tx.remove("tunnel", tunnel.id) && tx.put("tunnel", tunnel)],
      [1, () => tunnel && tx.remove("tunnel", tunnel.id) && tx.put("tunnel", { ...tunnel, id: `renamed-${number}` })],
      [2, () => agent && tx.put("agent", { ...agent, name: `by sql ${number}` })],
      [
        1,
        () => agent && tx.put("agent", { ...agent, virtualIp: agent.virtualIp.replace(/\d+$/u, String(200 + number)) })
      ],
      [1, () => gateway && tx.put("gateway", { ...gateway, name: `by sql ${number}` })],
      [1, () => gateway && tx.put("gateway", { ...gateway, serves: number < 4 ? null : { agents: [], domains: [] } })],
      [1, () => gateway && agent && tx.put("gateway", { ...gateway, serves: { agents: [agent.id], domains: [] } })],
      [1, () => key && tx.remove("key", key.id)],
      [1, () => key && tx.put("key", { ...key, hash: String(number).repeat(64) })],
      [1, () => certificate && tx.remove("certificate", certificate.id)],
      [1, () => certificate && tx.put("certificate", { ...certificate, expiresAt: `2026-0${number}-01T00:00:00.000Z` })]
    ]
    random.weighted(statements)?.()
  }

  /** Runs a request on a node. A failure that the API declares is a normal response; a defect is a violation. */
  #request<A, E>(effect: Effect.Effect<A, E, Services>, done?: (value: A) => void): void {
    const { node, world } = this.#simulation
    node?.run(effect, (exit) => {
      if (Exit.isSuccess(exit)) done?.(exit.value)
      else {
        const [reason] = exit.cause.reasons
        if (reason?._tag === "Die")
          world.violate("I17 total function", `an operator's request died: ${String(reason.defect)}`)
        world.trace(() => `  operator request failed: ${reason?._tag === "Fail" ? String(reason.error) : reason?._tag}`)
      }
    })
  }

  #nextName(): string {
    return `n${this.#created += 1}`
  }

  #drawScope(random: Random): NonNullable<GatewayPatch["serves"]> {
    const chosen = [...domains, "*.example.com"].filter(() => random.chance(0.25))
    const agents = Array.from({ length: random.between(0, 2) }, () => this.#pickAgentId(random))
    return { agents, domains: chosen.map((domain) => HostName.make(domain)) }
  }

  #pickAgentId(random: Random): AgentId {
    return AgentId.make(random.chance(0.05) ? "absent" : this.#pickId("agent", random))
  }

  #pickClient(type: "agent" | "gateway", random: Random): ClientRef | undefined {
    return random.pick(this.#simulation.keys.filter(({ ref }) => ref.type === type))?.ref
  }

  #pickId(entity: keyof Rows, random: Random): string {
    return random.pick([...this.#simulation.database.tables[entity].keys()]) ?? "none"
  }
}

/** The protocol follows from the port of the target, so that old seeds keep their draws. */
function randomTarget(random: Random) {
  const port = random.between(8_000, 8_009)
  return { target: `localhost:${port}`, protocol: port > 8_006 ? "tls" as const : "http" as const }
}

function tunnelOf(agentId: string, number: number) {
  return { id: `sql-${number}`, agentId, domain: `sql${number}.example.com`, target: "localhost:80", enabled: true }
}
