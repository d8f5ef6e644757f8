/** Random sequences of store requests, which compare two implementations of the stores. */
import { AgentStore } from "#store/AgentStore.ts"
import { GatewayStore } from "#store/GatewayStore.ts"
import { TunnelStore } from "#store/TunnelStore.ts"
import { Effect } from "effect"
import type { Random } from "./Random.ts"
import type { Tables } from "./databaseTables.ts"
import { agents, gateways, pick, type StoreRequest, tunnels } from "./StoreRequest.ts"
import * as presence from "./randomPresenceRequests.ts"
import * as resources from "./randomResourceRequests.ts"

/** Draws a request that is possible with these rows. `fresh` must differ for each request. */
export const drawRequest = (random: Random, fresh: number, tables: Tables): StoreRequest => {
  const draw = random.weighted<(random: Random, fresh: number, tables: Tables) => StoreRequest>([
    [4, resources.createAgent],
    [2, resources.createGateway],
    [8, resources.createTunnel],
    [6, resources.updateTunnel],
    [3, resources.putTunnel],
    [3, resources.removeTunnel],
    [1, resources.reportTunnels],
    [3, resources.updateClient],
    [2, resources.removeClient],
    [2, resources.keyRequest],
    [5, resources.certificateRequest],
    [6, presence.claim],
    [3, presence.touch],
    [2, presence.release],
    [1, presence.sweep],
    [2, presence.renew],
    [1, presence.collect],
    [3, readRows]
  ]) ?? readRows
  return draw(random, fresh, tables)
}

const readRows = (random: Random): StoreRequest => {
  const [agent, gateway, tunnel] = [pick(random, agents), pick(random, gateways), pick(random, tunnels)]
  return {
    name: "read rows",
    effect: Effect.all({
      agent: Effect.flatMap(AgentStore, (store) => store.find(agent)),
      gateway: Effect.flatMap(GatewayStore, (store) => store.find(gateway)),
      tunnel: Effect.flatMap(TunnelStore, (store) => store.find(tunnel)),
      agents: Effect.flatMap(AgentStore, (store) => store.list({ after: undefined, limit: 2 })),
      tunnels: Effect.flatMap(TunnelStore, (store) => store.list({ after: undefined, limit: 10 }))
    })
  }
}
