/** Test cluster: PostgreSQL, nodes, clients, and a proxy before each node and its database. */
import { requireWithin } from "./waitUntil.ts"
import { Random } from "#simulation/Random.ts"
import { issueCertificate } from "#support/certificates.ts"
import { randomBytes } from "node:crypto"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { ControlNode } from "./ControlNode.ts"
import { ClientFleet } from "./ClientFleet.ts"
import type { Account } from "./FaultClient.ts"
import { Postgres } from "./Postgres.ts"
import { Proxy } from "./Proxy.ts"
import { pemSecret, type Secret } from "./findSecretsInOutput.ts"

export interface TestClusterOptions {
  readonly clients: number
  readonly nodes: number
  readonly seed: number
  /** Node.js arguments of every node. */
  readonly execArgv?: ReadonlyArray<string>
  /** Settings of every node, in addition to the cluster's own. */
  readonly env?: Readonly<Record<string, string>>
}

/** Shorter than the default, so that a test sees the effects of silence within seconds. */
export const heartbeatTimeoutMillis = 6_000

const nodeSettings = {
  CONTROL_HEARTBEAT_TIMEOUT: `${heartbeatTimeoutMillis} millis`,
  CONTROL_HEARTBEAT_INTERVAL: "1 second",
  CONTROL_AUTH_TIMEOUT: "4 seconds"
}

/** Number of clients per gateway. */
const clientsPerGateway = 10

export class TestCluster {
  readonly options: TestClusterOptions
  readonly directory: string
  postgres: Postgres
  /** Proxies between each node and PostgreSQL. */
  readonly databaseProxies: ReadonlyArray<Proxy>
  readonly nodes: ReadonlyArray<ControlNode>
  /** Proxies between the clients and each node. */
  readonly clientProxies: ReadonlyArray<Proxy>
  fleet: ClientFleet
  accounts: ReadonlyArray<Account> = []
  agentIds: ReadonlyArray<string> = []
  /** Key of an agent outside the fleet. */
  spareAgentKey = ""
  /** Key of a gateway outside the fleet. */
  spareGatewayKey = ""
  readonly secrets: Array<Secret>
  readonly certificateKeys = new Map<string, string>()
  /** A fault has left the cluster in a state that the next fault must not see, so that a new cluster is created. */
  isUnusable = false
  /** Length of each node's output that was already searched for secrets. */
  readonly searchedUpTo = new Map<string, number>()

  private constructor(
    options: TestClusterOptions,
    directory: string,
    postgres: Postgres,
    stores: ReadonlyArray<Proxy>,
    nodes: ReadonlyArray<ControlNode>,
    edges: ReadonlyArray<Proxy>,
    masterKey: string
  ) {
    this.options = options
    this.directory = directory
    this.postgres = postgres
    this.databaseProxies = stores
    this.nodes = nodes
    this.clientProxies = edges
    this.secrets = [{ name: "the master key", text: masterKey }]
    this.fleet = new ClientFleet([], [], options.seed)
  }

  static async open(options: TestClusterOptions): Promise<TestCluster> {
    const directory = await mkdtemp(join(tmpdir(), "control-faults-"))
    const postgres = await Postgres.open(join(directory, "postgres"))
    const masterKey = randomBytes(32).toString("base64")
    const numbers = Array.from({ length: options.nodes }, (_, index) => index)
    const stores = await Promise.all(numbers.map(() => Proxy.to(postgres.port)))
    const nodes = await Promise.all(numbers.map((index) =>
      ControlNode.make({
        name: `node ${index + 1}`,
        execArgv: options.execArgv ?? [],
        dataDir: join(directory, `node-${index + 1}`),
        env: {
          ...nodeSettings,
          CONTROL_NODE_NAME: `node-${index + 1}`,
          // The admin token is not set, because a node with all secrets in its settings keeps no high-water mark file.
          CONTROL_MASTER_KEY: masterKey,
          DATABASE_URL: postgres.urlAt(stores[index]?.port ?? 0),
          ...options.env
        }
      })
    ))
    const edges = await Promise.all(nodes.map(({ wsPort }) => Proxy.to(wsPort)))
    const cluster = new TestCluster(options, directory, postgres, stores, nodes, edges, masterKey)
    try {
      for (const node of nodes) await node.start()
      await cluster.#seed()
    } catch (error) {
      await cluster.close()
      throw error
    }
    return cluster
  }

  get node(): ControlNode {
    const [first] = this.nodes
    if (first === undefined) throw new Error("the cluster has no nodes")
    return first
  }

  get databaseProxy(): Proxy {
    const [first] = this.databaseProxies
    if (first === undefined) throw new Error("the cluster has no nodes")
    return first
  }

  get clientProxy(): Proxy {
    const [first] = this.clientProxies
    if (first === undefined) throw new Error("the cluster has no nodes")
    return first
  }

  async revision(): Promise<number> {
    const [row] = await this.postgres.query("select revision::float8 as revision from control_meta")
    return Number(row?.["revision"])
  }

  /** Heals every injected fault, restarts stopped processes, and lets clients reconnect without back-off. */
  async heal(): Promise<void> {
    for (const proxy of [...this.databaseProxies, ...this.clientProxies]) proxy.heal()
    if (!this.postgres.isRunning) await this.postgres.start()
    for (const node of this.nodes) {
      if (node.isAlive) node.signal("SIGCONT")
      else await node.start()
    }
    for (const client of this.fleet.clients) {
      client.ws?.resume()
      client.maxSilentIntervals = 2.5
      client.sendsHeartbeats = true
      client.ignoresFinalCloseCodes = false
      if (client.isStopped) client.start()
      else client.resetBackOff()
    }
  }

  /** Output of all processes. */
  get outputs(): ReadonlyArray<{ readonly name: string; readonly text: string }> {
    return [
      ...this.nodes.map(({ name, output }) => ({ name, text: output })),
      { name: "PostgreSQL", text: this.postgres.log }
    ]
  }

  async close(): Promise<void> {
    for (const client of this.fleet.clients) client.stop()
    await Promise.all(this.nodes.map((node) => node.stop(8_000)))
    for (const { ws } of this.fleet.clients) ws?.terminate()
    await Promise.all([...this.databaseProxies, ...this.clientProxies].map((proxy) => proxy.close()))
    await this.postgres.close()
    await rm(this.directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
  }

  async #seed(): Promise<void> {
    const { clients, seed } = this.options
    const gateways = Math.max(2, Math.floor(clients / clientsPerGateway))
    const wanted = Array.from({ length: clients }, (_, index) => ({
      type: index < gateways ? "gateway" as const : "agent" as const,
      name: `${index < gateways ? "gateway" : "agent"}-${index}`,
      // Half of each client type uses each protocol level.
      level: index % 2 === 0 ? "v1" as const : "plain" as const
    }))
    const accounts: Array<Account> = []
    // Eight at a time, because the requests wait for one lock.
    for (let at = 0; at < wanted.length; at += 8) {
      accounts.push(
        ...await Promise.all(
          wanted.slice(at, at + 8).map(async (account) => {
            const { apiKey, id } = await this.create(`/api/${account.type}s`, { name: account.name })
            this.secrets.push({ name: `the key of ${account.name}`, text: String(apiKey) })
            return { ...account, id: String(id), apiKey: String(apiKey) }
          })
        )
      )
    }
    this.accounts = accounts
    this.agentIds = accounts.filter(({ type }) => type === "agent").map(({ id }) => id)
    this.spareAgentKey = String((await this.create("/api/agents", { name: "spare" }))["apiKey"])
    this.spareGatewayKey = String((await this.create("/api/gateways", { name: "spare" }))["apiKey"])
    this.secrets.push({ name: "the key of the spare", text: this.spareAgentKey })
    this.secrets.push({ name: "the key of the spare gateway", text: this.spareGatewayKey })
    for (const { name, token } of this.nodes) this.secrets.push({ name: `the admin token of ${name}`, text: token })
    await this.postgres.query(
      "insert into tunnels (agent_id, domain, target) select id, 'app-' || name || '.example.com', 'localhost:8080' from agents"
    )
    await this.postgres.query("update gateways set public_ip = '203.0.113.' || slot")
    await this.#addCertificate(accounts.at(-1)?.name ?? "")
    this.fleet = new ClientFleet(accounts, this.clientProxies.map(({ port }) => port), seed)
    await this.fleet.connectAll()
    for (const client of this.fleet.clients) {
      const own = client.viewer.view?.own as { wireguardPrivateKey?: string } | undefined
      const text = own?.wireguardPrivateKey
      if (text !== undefined) this.secrets.push({ name: `the private key of ${client.account.name}`, text })
    }
  }

  async #addCertificate(agent: string): Promise<void> {
    const domain = `app-${agent}.example.com`
    const { certificate, expiresAt, privateKey } = issueCertificate({ names: [domain] })
    this.certificateKeys.set(domain, privateKey)
    this.secrets.push(pemSecret(`the private key of ${domain}`, privateKey))
    const answer = await this.node.operator.put(`/api/certificates/${domain}`, { certificate, expiresAt, privateKey })
    if (answer.status >= 300) throw new Error(`PUT ${domain}: ${answer.status} ${JSON.stringify(answer.body)}`)
  }

  /** Sends a POST request to the first node and returns the response body. */
  async create(path: string, body: object): Promise<Record<string, unknown>> {
    const answer = await this.node.operator.post(path, body)
    if (answer.status !== 201) throw new Error(`POST ${path}: ${answer.status} ${JSON.stringify(answer.body)}`)
    return answer.body
  }

  /** Random numbers for one fault, independent of the clients' ones. */
  random(seed: number): Random {
    return Random.of(seed, 0xfa17)
  }

  /** Waits until every client is connected and has its view. */
  async waitUntilCalm(): Promise<void> {
    await requireWithin("all clients are back before the next fault", 60_000, () => this.fleet.isFullyConnected)
  }
}
