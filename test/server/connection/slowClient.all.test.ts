/** A client that does not read, during 25,000 changes. */
import { TestServer } from "#support/TestServer.ts"
import { ViewReplica } from "#support/ViewReplica.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect } from "effect"
import { SqlClient } from "effect/sql"

layer(TestServer.layer(), { excludeTestServices: true })("a slow client", (it) => {
  it.effect(
    "a client that does not read gets one config in place of missed deltas, with bounded memory",
    () =>
      Effect.gen(function*() {
        const server = yield* TestServer
        const sql = Context.get(server.context, SqlClient.SqlClient)
        const agent = yield* server.newAgent
        const [slow, quick] = yield* Effect.all([server.joinGateway(), server.joinGateway()])
        yield* sql`insert into tunnels (id, agent_id, domain, target)
        select 'slow' || i, ${agent.id}, 'slow' || i || '.example.com', 'localhost:1' from generate_series(1, 250) i`
        slow.client.ws.pause()
        const quickViewer = new ViewReplica()
        quickViewer.apply(quick.client.config)
        // 100 rounds of 250 changes of half a kilobyte each, which is far more than the kernel buffers hold.
        const longName = `${`${"x".repeat(60)}.`.repeat(4)}example`
        for (let round = 0; round < 100; round++) {
          yield* sql`update tunnels set target = ${`http://${longName}:${round + 1}`} where id like 'slow%'`
        }
        while (!isUpToDate(quickViewer)) {
          quickViewer.apply(yield* quick.client.next)
        }
        slow.client.ws.resume()
        const slowViewer = new ViewReplica()
        slowViewer.apply(slow.client.config)
        let messages = 0
        while (!isUpToDate(slowViewer)) {
          slowViewer.apply(yield* slow.client.next)
          messages += 1
        }
        assert.deepStrictEqual(slowViewer.view, { ...quickViewer.view, own: slowViewer.view?.own })
        assert.isBelow(messages, 20_000, "a config replaced most of the 25,000 deltas")
      }),
    180_000
  )
})

/** Whether the view has the last round of changes for every tunnel. */
const isUpToDate = ({ view }: ViewReplica): boolean => {
  const changed = Object.entries(view?.tunnels ?? {}).filter(([id]) => id.startsWith("slow"))
  return changed.length === 250 && changed.every(([, row]) => "target" in row && String(row.target).endsWith(":100"))
}
