/** The tests of the specification (websocket-server.ja.md, テスト), completed, and tests of the embedded server. */
import { Agents } from "#services/Agents.ts"
import { Network } from "#feed/Network.ts"
import { Gateways } from "#services/Gateways.ts"
import { getWebSocketServer, startWebSocketServer, WSServer } from "#library/index.ts"
import { readSettings, Settings } from "#server/Settings.ts"
import { AgentStore } from "#store/AgentStore.ts"
import { AuditStore } from "#store/AuditStore.ts"
import * as Database from "#store/Database.ts"
import { DataDirectory } from "#store/DataDirectory.ts"
import { GatewayStore } from "#store/GatewayStore.ts"
import { Secrets } from "#store/secrets/Secrets.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { Effect, Exit, Layer, ManagedRuntime, Redacted, Scope } from "effect"
import { randomBytes } from "node:crypto"
import { createServer, type Server } from "node:net"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { WebSocket } from "ws"

const scope = Effect.runSync(Scope.make())
const env: Record<string, string> = {
  CONTROL_WS_HOST: "localhost",
  CONTROL_LOG_LEVEL: "none",
  CONTROL_MASTER_KEY: randomBytes(32).toString("base64"),
  CONTROL_ADMIN_TOKEN: "an-unused-admin-token"
}

/** Creates agents and gateways as the embedding application does. */
const makeRowServices = () =>
  ManagedRuntime.make(
    Layer.mergeAll(Agents.layer, Gateways.layer, AuditStore.layer).pipe(
      Layer.provide(
        Layer.mergeAll(AgentStore.layer, GatewayStore.layer, Layer.mock(Network)({ catchUp: Effect.void }))
      ),
      Layer.provide(Secrets.layer),
      Layer.provide(Database.layer),
      Layer.provide(DataDirectory.layer),
      Layer.provide(Layer.effect(Settings, readSettings(env)))
    )
  )
let rows: ReturnType<typeof makeRowServices>

beforeAll(async () => {
  env["DATABASE_URL"] = (await Effect.runPromise(Scope.provide(newDatabase, scope))).url
  rows = makeRowServices()
})

afterAll(async () => {
  await rows.dispose()
  await Effect.runPromise(Scope.close(scope, Exit.void))
})

let created = 0
const newAgent = async () => {
  const name = `agent ${created += 1}`
  const { agent, apiKey } = await rows.runPromise(Effect.flatMap(Agents, (agents) => agents.create({ name })))
  return { ...agent, apiKey: Redacted.value(apiKey) }
}
const newGateway = async () => {
  const { apiKey, gateway } = await rows.runPromise(
    Effect.flatMap(Gateways, (gateways) => gateways.create({ name: `gateway ${created += 1}` }))
  )
  return { ...gateway, apiKey: Redacted.value(apiKey) }
}

interface Message {
  readonly type: string
  readonly data: { readonly [field: string]: unknown; readonly agent?: { readonly id: string } }
}

/** Connects a client as the tests of the specification do, and keeps all received messages. */
const connect = (query = "") => {
  const ws = new WebSocket(`ws://localhost:3002${query}`)
  const received: Array<Message> = []
  const waiting: Array<() => void> = []
  ws.on("message", (data) => {
    received.push(JSON.parse(String(data)))
    for (const resume of waiting.splice(0)) resume()
  })
  const message = async (index: number): Promise<Message> => {
    while (received.length <= index) await new Promise<void>((resume) => waiting.push(resume))
    return received[index] as Message
  }
  const auth = (apiKey: string) => ws.on("open", () => ws.send(JSON.stringify({ type: "auth", data: { apiKey } })))
  return { ws, received, message, auth }
}

describe("WSServer", () => {
  let server: WSServer

  beforeEach(() => {
    server = new WSServer(3002, { env })
  })

  afterEach(async () => {
    await server.close()
  })

  it("should accept connections", async () => {
    const client = new WebSocket("ws://localhost:3002")
    await new Promise((resolve) => client.on("open", resolve))
    expect(client.readyState).toBe(WebSocket.OPEN)
    client.close()
  })

  it("should authenticate agent with valid API key", async () => {
    const agent = await newAgent()
    const { auth, message } = connect("?type=agent")
    auth(agent.apiKey)
    expect(await message(0)).toEqual({
      type: "auth_success",
      data: { agentId: agent.id, message: "Authentication successful" }
    })
  })

  it("should reject invalid API key", async () => {
    const { auth, message, ws } = connect("?type=agent")
    const closed = new Promise<number>((resolve) => ws.on("close", resolve))
    auth("wrong")
    expect(await message(0)).toEqual({ type: "auth_error", data: { message: "Invalid API key" } })
    expect(await closed).toBe(4401)
  })

  it("should send config after authentication", async () => {
    const agent = await newAgent()
    const { auth, message } = connect("?type=agent")
    auth(agent.apiKey)
    const config = await message(1)
    expect(config.type).toBe("config")
    expect(config.data.agent?.id).toBe(agent.id)
    expect(Object.keys(config.data)).toEqual(["agent", "gateways", "tunnels"])
  })

  it("should broadcast tunnel creation", async () => {
    const [agent, gateway] = [await newAgent(), await newGateway()]
    const [one, other] = [connect("?type=agent"), connect("?type=gateway")]
    one.auth(agent.apiKey)
    other.auth(gateway.apiKey)
    await Promise.all([one.message(1), other.message(1)])
    const tunnel = {
      id: `t-${agent.id}`,
      agentId: agent.id,
      domain: `${agent.id}.example.com`,
      target: "localhost:8080"
    }
    await server.broadcastTunnelCreate(tunnel)
    const { agentId: _, ...seen } = { ...tunnel, enabled: true }
    expect(await one.message(2)).toEqual({ type: "tunnel_create", data: seen })
    expect(await other.message(2)).toEqual({
      type: "tunnel_create",
      data: { ...seen, agentVirtualIp: agent.virtualIp }
    })
  })
})

describe("the embedded server", () => {
  it("broadcasts resolve after the message is sent, and a broadcast of an unchanged tunnel sends nothing", async () => {
    const server = new WSServer(3002, { env })
    const agent = await newAgent()
    const { auth, message, received, ws } = connect()
    auth(agent.apiKey)
    await message(1)
    const tunnel = {
      id: `t2-${agent.id}`,
      agentId: agent.id,
      domain: `t2.${agent.id}.example.com`,
      target: "localhost:8080"
    }
    await server.broadcastTunnelCreate(tunnel)
    await server.broadcastTunnelCreate(tunnel)
    await server.broadcastTunnelUpdate({ ...tunnel, enabled: false })
    await server.broadcastTunnelDelete(tunnel.id, agent.id)
    await server.broadcastTunnelDelete(tunnel.id, agent.id)
    ws.send(JSON.stringify({ type: "hello", data: {} }))
    expect((await message(5)).type).toBe("error")
    expect(received.slice(2).map(({ type }) => type)).toEqual([
      "tunnel_create",
      "tunnel_update",
      "tunnel_delete",
      "error"
    ])
    const [client] = server.getConnectedClients()
    expect(client).toEqual({ id: agent.id, type: "agent", authenticated: true, lastHeartbeat: client?.lastHeartbeat })
    expect(Math.abs(Date.now() - (client?.lastHeartbeat ?? 0))).toBeLessThan(60_000)
    await expect(server.broadcastTunnelCreate({ ...tunnel, agentId: "unknown" })).rejects.toThrow(
      "there is no agent unknown"
    )
    const port = 20_000 + Number.parseInt(agent.id.slice(0, 3), 16)
    const game = { agentId: agent.id, name: agent.id.slice(1), protocol: "tcp", target: "localhost:25565" } as const
    await server.broadcastTunnelCreate({ ...game, listenPort: port })
    await expect(server.broadcastTunnelCreate({ ...game, name: "twin", listenPort: port })).rejects.toThrow(
      "belongs to another tunnel of the same transport"
    )
    await expect(server.broadcastTunnelCreate(game)).rejects.toThrow("expected a public port for tcp")
    await expect(server.broadcastTunnelDelete("", agent.id)).rejects.toThrow("invalid tunnel: id")
    await server.close()
    const { items } = await rows.runPromise(
      Effect.flatMap(
        AuditStore,
        (audit) => audit.list({ limit: 9, before: undefined, entityType: "tunnel", entityIds: [tunnel.id] })
      )
    )
    expect(items.map(({ action, actor, address }) => [action, actor, address])).toEqual(
      ["tunnel.delete", "tunnel.update", "tunnel.create"].map((action) => [action, "library", null])
    )
  })

  it("startWebSocketServer throws if a server is running, and getWebSocketServer throws if none is", async () => {
    expect(() => getWebSocketServer()).toThrow("WebSocket server not started")
    const server = startWebSocketServer(3002, { env })
    expect(getWebSocketServer()).toBe(server)
    expect(() => startWebSocketServer(3002, { env })).toThrow("WebSocket server already running")
    await server.close()
    expect(() => getWebSocketServer()).toThrow("WebSocket server not started")
  })

  it("a port in use rejects ready, and an invalid setting throws", async () => {
    const taken = await new Promise<Server>((resolve) => {
      const server = createServer().listen(3002, "localhost", () => resolve(server))
    })
    const server = new WSServer(3002, { env })
    await expect(server.ready).rejects.toThrow("3002")
    await server.close()
    await new Promise((resolve) => taken.close(resolve))
    expect(() => new WSServer(3002, { env: { ...env, CONTROL_AUTH_TIMEOUT: "soon" } })).toThrow("CONTROL_AUTH_TIMEOUT")
  })
})
