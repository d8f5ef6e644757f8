/** A complete Control server in the test process, with real sockets and PostgreSQL. */
import { Listener } from "#connection/Listener.ts"
import { Network } from "#feed/Network.ts"
import * as Control from "#server/Control.ts"
import type { SettingsValues } from "#server/Settings.ts"
import { Intervals, type IntervalValues, productionIntervals } from "#time/Intervals.ts"
import { Context, Effect, Layer } from "effect"
import { HttpServer } from "effect/http"
import { type Api, api, type ApiResponse } from "./apiClient.ts"
import { adminToken, quiet, testSettings } from "./testDatabase.ts"
import { join } from "./TestClient.ts"

export interface CreatedClient {
  readonly id: string
  readonly apiKey: string
}

/** Of all servers of a test file, because the nodes of one database must not choose the same name. */
let created = 0

/** Starts a server, and returns its ports, an API client, and helpers that create and connect clients. */
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
  const { catchUp } = Context.get(context, Network)
  const operator = withCatchUp(api(apiUrl, adminToken), catchUp)

  const create = (path: string, body: object) =>
    Effect.promise(async () => {
      const response = await operator.post(path, body)
      if (response.status !== 201) throw new Error(`POST ${path}: ${response.status} ${JSON.stringify(response.body)}`)
      return response.body
    })
  const newAgent: Effect.Effect<CreatedClient> = Effect.suspend(() =>
    create("/api/agents", { name: `agent ${created += 1}` })
  )
  const newGateway: Effect.Effect<CreatedClient> = Effect.suspend(() =>
    create("/api/gateways", { name: `gateway ${created += 1}` })
  )
  const newTunnel = (agentId: string, more: object = {}) =>
    create("/api/tunnels", { agentId, domain: `t${created += 1}.example.com`, target: "localhost:8080", ...more })

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

/**
 * Lets the feed read each successful write before the caller continues. A client that connects next then finds the change in
 * its first `config`, and no late message about the change reaches it.
 */
const withCatchUp = (operator: Api, catchUp: Effect.Effect<void, unknown>): Api => {
  const afterWrite = async (response: Promise<ApiResponse>): Promise<ApiResponse> => {
    if ((await response).status < 300) await Effect.runPromise(Effect.ignore(catchUp))
    return response
  }
  return {
    get: operator.get,
    post: (path, body, headers) => afterWrite(operator.post(path, body, headers)),
    patch: (path, body, headers) => afterWrite(operator.patch(path, body, headers)),
    put: (path, body, headers) => afterWrite(operator.put(path, body, headers)),
    delete: (path, headers) => afterWrite(operator.delete(path, headers))
  }
}

export class TestServer
  extends Context.Service<TestServer, Effect.Success<ReturnType<typeof makeServer>>>()("test/TestServer")
{
  static readonly layer = (settings: Partial<SettingsValues> = {}, intervals?: IntervalValues) =>
    Layer.effect(TestServer, makeServer(settings, intervals))
}
