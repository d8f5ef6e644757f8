/** Messages that `control.v1` adds: auth_success, revisions, deltas, ack, nack, resync. */
import { Deliveries } from "#clients/Deliveries.ts"
import { generateWireguardKeyPair } from "#crypto/wireguardKeys.ts"
import { GatewayId } from "#schema/ids.ts"
import { issueCertificate } from "#support/certificates.ts"
import { TestServer } from "#support/TestServer.ts"
import { connect, joinV1, type TestClient } from "#support/TestClient.ts"
import { viewFromConfig, ViewReplica } from "#support/ViewReplica.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Option } from "effect"
import { SqlClient } from "effect/sql"

/** A new gateway that has received its config. */
const newGateway = Effect.gen(function*() {
  const server = yield* TestServer
  const gateway = yield* server.newGateway
  const client = yield* joinV1(server.wsPort, "gateway", gateway.apiKey, { publicIp: "203.0.113.9" })
  return { ...gateway, client, config: yield* client.expect("config") }
})

const newAgent = Effect.gen(function*() {
  const server = yield* TestServer
  const agent = yield* server.newAgent
  const client = yield* joinV1(server.wsPort, "agent", agent.apiKey)
  return { ...agent, client, config: yield* client.expect("config") }
})

/** The next message of this type; messages before it belong to other changes. */
const until = (client: TestClient, type: string, id?: string) =>
  Effect.gen(function*() {
    while (true) {
      const message = yield* client.next
      if (message.type === type && (id === undefined || message.data["id"] === id || message.data["domain"] === id))
        return message
    }
  })

layer(TestServer.layer(), { excludeTestServices: true })("control.v1", (it) => {
  it.effect("the server selects the subprotocol, and auth_success has the parameters of the connection", () =>
    Effect.gen(function*() {
      const { client, id } = yield* newAgent
      assert.strictEqual(client.ws.protocol, "control.v1")
      const { data } = client.success
      assert.strictEqual(data["agentId"], id)
      assert.isFalse(data["resumed"])
      assert.deepStrictEqual(data["heartbeat"], { intervalMs: 20_000, timeoutMs: 60_000 })
      assert.deepStrictEqual(data["limits"], { maxMessageBytes: 262_144, maxMessagesPerSecond: 50 })
      assert.hasAllKeys(data["server"], ["version", "node"])
      assert.isString(data["sessionId"])
      assert.isString(data["timeline"])
    }))

  it.effect("the server selects the known one of several subprotocols and rejects an upgrade without any", () =>
    Effect.gen(function*() {
      const { wsPort } = yield* TestServer
      const client = yield* connect(wsPort, "", { protocols: ["other", "control.v1"] })
      assert.strictEqual(client.ws.protocol, "control.v1")
      const refused = yield* Effect.flip(connect(wsPort, "", { protocols: ["control.v9"] }))
      assert.include(refused.message, "400")
      const body = yield* Effect.promise(() =>
        fetch(`http://127.0.0.1:${wsPort}/`, { headers: { "sec-websocket-protocol": "x" } }).then((answer) =>
          answer.status
        )
      )
      assert.strictEqual(body, 426)
    }))

  it.effect("a config has its revision, both keys of its client, endpoints and the addresses of the gateway", () =>
    Effect.gen(function*() {
      const gateway = yield* newGateway
      const agent = yield* newAgent
      assert.isAbove(gateway.config.revision ?? 0, 0)
      assert.strictEqual(gateway.config.timeline, gateway.client.success.data["timeline"])
      assert.hasAllKeys(gateway.config.data["gateway"], [
        "id",
        "name",
        "listenPort",
        "wireguardPublicKey",
        "wireguardPrivateKey"
      ])
      const seen = agent.config.data["gateways"].find(({ id }: { id: string }) => id === gateway.id)
      assert.strictEqual(seen.endpoint, "203.0.113.9:51820")
      const step = yield* until(gateway.client, "agent_create", agent.id)
      assert.deepStrictEqual([step.data["gatewayVirtualIp"]], seen.virtualIps)
    }))

  it.effect("every change is one delta, and each has the revision of the message before it", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const gateway = yield* newGateway
      const agent = yield* newAgent
      const viewers = [gateway, agent].map(({ client, config }) => {
        const viewer = new ViewReplica()
        viewer.apply(config)
        return { client, viewer }
      })
      const tunnel = yield* server.newTunnel(agent.id)
      const { certificate, privateKey } = issueCertificate({ names: [tunnel.domain] })
      const operator = server.operator
      yield* Effect.promise(async () => {
        await operator.patch(`/api/tunnels/${tunnel.id}`, { enabled: false })
        await operator.put(`/api/certificates/${tunnel.domain}`, { certificate, privateKey })
        await operator.delete(`/api/certificates/${tunnel.domain}`)
        await operator.delete(`/api/tunnels/${tunnel.id}`)
      })
      const other = yield* server.newGateway
      yield* Effect.promise(() => operator.patch(`/api/gateways/${other.id}`, { publicIp: "203.0.113.5" }))
      yield* Effect.promise(() => operator.delete(`/api/gateways/${other.id}`))
      const last = yield* server.newTunnel(agent.id)
      const seen: Array<Array<string>> = []
      for (const { client, viewer } of viewers) {
        const types: Array<string> = []
        while (viewer.view?.tunnels[last.id] === undefined) {
          const message = yield* client.next
          types.push(message.type)
          viewer.apply(message)
        }
        seen.push(types)
      }
      assert.deepStrictEqual(seen[0], [
        "agent_create",
        "tunnel_create",
        "tunnel_update",
        "certificate_create",
        "certificate_delete",
        "tunnel_delete",
        "tunnel_create"
      ])
      assert.deepStrictEqual(seen[1], [
        "tunnel_create",
        "tunnel_update",
        "tunnel_delete",
        "gateway_create",
        "gateway_update",
        "gateway_delete",
        "tunnel_create"
      ])
      yield* Effect.promise(() => operator.patch(`/api/agents/${agent.id}`, { name: "renamed" }))
      viewers[0]?.viewer.apply(yield* gateway.client.expect("agent_update"))
      // The part of a view that describes its own client has no delta.
      viewers[1]?.viewer.apply(yield* agent.client.expect("config"))
      const again = yield* joinV1(server.wsPort, "gateway", gateway.apiKey)
      assert.deepStrictEqual(viewers[0]?.viewer.view, viewFromConfig((yield* again.expect("config")).data))
    }))

  it.effect("certificate_accepted follows a stored certificate, and an error follows a rejected one", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agent = yield* server.newAgent
      const tunnel = yield* server.newTunnel(agent.id)
      const gateway = yield* newGateway
      const good = issueCertificate({ names: [tunnel.domain] })
      gateway.client.send({
        type: "certificate_obtained",
        data: {
          domain: tunnel.domain,
          certificate: good.certificate,
          privateKey: good.privateKey,
          expiresAt: good.expiresAt
        }
      })
      const accepted = yield* until(gateway.client, "certificate_accepted")
      assert.deepStrictEqual(accepted.data, { domain: tunnel.domain })
      const stored = yield* Effect.promise(() => server.operator.get(`/api/certificates/${tunnel.domain}`))
      assert.strictEqual(stored.status, 200)
      gateway.client.send({
        type: "certificate_obtained",
        data: { domain: "not.mine.example.com", ...good, names: undefined }
      })
      assert.strictEqual((yield* until(gateway.client, "error")).data["code"], "certificate_rejected")
    }))

  it.effect("heartbeat_ack has the timestamp and the revision that the client must have reached", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agent = yield* newAgent
      agent.client.send({ type: "heartbeat", data: { timestamp: 12.5 } })
      const first = yield* agent.client.expect("heartbeat_ack")
      assert.strictEqual(first.data["timestamp"], 12.5)
      assert.strictEqual(first.data["revision"], agent.config.revision)
      assert.match(first.data["serverTime"], /^\d{4}-.*Z$/u)
      yield* server.newTunnel(agent.id)
      const step = yield* agent.client.expect("tunnel_create")
      agent.client.send({ type: "heartbeat", data: { timestamp: 13 } })
      assert.strictEqual((yield* agent.client.expect("heartbeat_ack")).data["revision"], step.revision)
    }))

  it.effect("an ack is recorded, an ack beyond the sent revision is an error, and an older ack changes nothing", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const deliveries = Context.get(server.context, Deliveries)
      const { client, config, id } = yield* newGateway
      const ref = { type: "gateway" as const, id: GatewayId.make(id) }
      const applied = Effect.map(deliveries.progressOf(ref), (progress) => Option.getOrThrow(progress).acknowledged)
      assert.isUndefined(yield* applied)
      const revision = config.revision ?? 0
      client.send({ type: "ack", data: { revision: revision + 1_000_000 } })
      assert.strictEqual((yield* until(client, "error")).data["code"], "ack_ahead")
      assert.isUndefined(yield* applied)
      client.send({ type: "ack", data: { revision } })
      client.send({ type: "ack", data: { revision: revision - 1 } })
      client.send({ type: "heartbeat", data: { timestamp: 1 } })
      yield* until(client, "heartbeat_ack")
      assert.strictEqual(yield* applied, config.revision)
    }))

  it.effect("a nack stands until its revision or a later one is acknowledged; a nack of an unknown revision is an error", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const deliveries = Context.get(server.context, Deliveries)
      const { client, config, id } = yield* newGateway
      const nack = Effect.map(
        deliveries.progressOf({ type: "gateway", id: GatewayId.make(id) }),
        (progress) => Option.getOrThrow(progress).rejected
      )
      const revision = config.revision ?? 0
      client.send({ type: "nack", data: { revision, code: "no_port", message: "not there", tunnelId: "t" } })
      client.send({ type: "nack", data: { revision: revision + 1_000_000, code: "c", message: "" } })
      assert.strictEqual((yield* until(client, "error")).data["code"], "nack_unknown")
      assert.deepInclude(yield* nack, { code: "no_port", message: "not there" })
      client.send({ type: "ack", data: { revision } })
      client.send({ type: "nack", data: { revision, code: "c", message: "" } })
      assert.strictEqual((yield* until(client, "error")).data["code"], "nack_unknown")
      assert.isUndefined(yield* nack)
    }))

  it.effect("resync is answered with a config at once, and in a loop with errors", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agent = yield* newAgent
      agent.client.send({ type: "resync", data: { reason: "test" } })
      const config = yield* agent.client.expect("config")
      assert.isAtLeast(config.revision ?? 0, agent.config.revision ?? 0)
      for (let again = 0; again < 3; again++) {
        agent.client.send({ type: "resync", data: {} })
        assert.strictEqual((yield* agent.client.expect("error")).data["code"], "rate_limited")
      }
      yield* server.newTunnel(agent.id)
      assert.strictEqual((yield* agent.client.expect("tunnel_create")).previous, config.revision)
    }))

  it.effect("a client that sends its own public key gets no private key; without it the client gets a new pair", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const gateway = yield* newGateway
      const agent = yield* server.newAgent
      const { publicKey: wireguardPublicKey } = generateWireguardKeyPair()
      const own = yield* joinV1(server.wsPort, "agent", agent.apiKey, { wireguardPublicKey })
      const { agent: mine } = (yield* own.expect("config")).data
      assert.strictEqual(mine.wireguardPublicKey, wireguardPublicKey)
      assert.notProperty(mine, "wireguardPrivateKey")
      assert.strictEqual(
        (yield* until(gateway.client, "agent_update", agent.id)).data["wireguardPublicKey"],
        wireguardPublicKey
      )
      const [row] = yield* sql`select wireguard_private_key as key from agents where id = ${agent.id}`
      assert.isNull(row?.["key"])
      const again = yield* joinV1(server.wsPort, "agent", agent.apiKey)
      const { agent: renewed } = (yield* again.expect("config")).data
      assert.isString(renewed.wireguardPrivateKey)
      assert.notStrictEqual(renewed.wireguardPublicKey, wireguardPublicKey)
    }))

  it.effect("message types of control.v1 are unknown at the plain level", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const { client } = yield* server.joinAgent
      for (const type of ["ack", "nack", "resync"]) {
        client.send({ type, data: { revision: 1 } })
        assert.strictEqual((yield* client.expect("error")).data["code"], "unknown_type")
      }
    }))

  it.effect("two clients that fight over one key are replaced, then limited, and no other client is affected", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const bystander = yield* newAgent
      const { apiKey } = yield* server.newAgent
      let previous: TestClient | undefined
      let limited: TestClient | undefined
      for (let round = 0; round < 40 && limited === undefined; round++) {
        const client = yield* connect(server.wsPort, "?type=agent", { protocols: ["control.v1"] })
        client.send({ type: "auth", data: { apiKey } })
        const answer = yield* client.next
        if (answer.type === "auth_error") limited = client
        else {
          if (previous !== undefined) assert.strictEqual((yield* previous.closed).code, 4409)
          previous = client
        }
      }
      assert.strictEqual((yield* limited?.closed ?? Effect.die("no client was limited")).code, 4429)
      assert.strictEqual(bystander.client.unread(), 0)
    }))
})
