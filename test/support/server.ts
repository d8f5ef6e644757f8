/** A whole Control in the test's own process: real sockets, real PostgreSQL, nothing replaced. */
import { Listener } from "#connection/Listener.ts"
import * as Control from "#server/Control.ts"
import type { SettingsValues } from "#server/Settings.ts"
import { Intervals, type IntervalValues, productionIntervals } from "#time/Intervals.ts"
import { Context, Effect, Layer } from "effect"
import { HttpServer } from "effect/http"
import { api } from "./api.ts"
import { adminToken, quiet, testSettings } from "./database.ts"
import { join } from "./TestClient.ts"

export interface CreatedClient {
  readonly id: string
  readonly apiKey: string
}

/** What tests hold on to of a running server. */
export const makeServer = Effect.fnUntraced(function*(
  settings: Partial<SettingsValues> = {},
  intervals: IntervalValues = productionIntervals
) {
  const context = yield* Layer.build(
    Control.layer.pipe(
      Layer.provide(Layer.succeed(Intervals, intervals)),
      Layer.provideMerge(testSettings(settings)),
      Layer.provideMerge(quiet)
    )
  )
  const wsPort = Context.get(context, Listener).port
  const { address } = Context.get(context, HttpServer.HttpServer)
  const apiUrl = `http://127.0.0.1:${"port" in address ? address.port : 0}`
  const operator = api(apiUrl, adminToken)
  let made = 0

  const create = (path: string, body: object) =>
    Effect.promise(async () => {
      const answer = await operator.post(path, body)
      if (answer.status !== 201) throw new Error(`POST ${path}: ${answer.status} ${JSON.stringify(answer.body)}`)
      return answer.body
    })
  const newAgent: Effect.Effect<CreatedClient> = Effect.suspend(() =>
    create("/api/agents", { name: `agent ${made += 1}` })
  )
  const newGateway: Effect.Effect<CreatedClient> = Effect.suspend(() =>
    create("/api/gateways", { name: `gateway ${made += 1}` })
  )
  const newTunnel = (agentId: string, more: object = {}) =>
    create("/api/tunnels", { agentId, domain: `t${made += 1}.example.com`, target: "localhost:8080", ...more })

  return {
    context,
    wsPort,
    operator,
    apiUrl,
    newAgent,
    newGateway,
    newTunnel,
    joinAgent: Effect.flatMap(
      newAgent,
      (agent) => Effect.map(join(wsPort, "agent", agent.apiKey), (client) => ({ ...agent, client }))
    ),
    joinGateway: (publicIp?: string) =>
      Effect.flatMap(
        newGateway,
        (gateway) => Effect.map(join(wsPort, "gateway", gateway.apiKey, publicIp), (client) => ({ ...gateway, client }))
      )
  }
})

export class TestServer
  extends Context.Service<TestServer, Effect.Success<ReturnType<typeof makeServer>>>()("test/TestServer")
{
  static readonly layer = (settings: Partial<SettingsValues> = {}, intervals?: IntervalValues) =>
    Layer.effect(TestServer, makeServer(settings, intervals))
}
