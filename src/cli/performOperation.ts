/** Performs one operation of the API: builds the request, prints the response, checks the delivery. */
import { UnreadableRow } from "#schema/pagination.ts"
import { Console, Effect, Option, Schema } from "effect"
import { readFile } from "node:fs/promises"
import { requestJson } from "./apiClient.ts"
import { commandFailed } from "./CommandFailed.ts"
import { findServer, type Server } from "./findServer.ts"
import { isFileInput } from "./help.ts"
import { type Input, kebab, type Operation } from "./operations.ts"
import type { Format, TableOptions } from "./output.ts"
import { print } from "./print.ts"
import { replaceControlCharacters } from "./valueText.ts"

/** Texts of the command line, by the API's name of the input. */
export type InputValues = Readonly<Record<string, Option.Option<string>>>

/** The table of a list; a group without an entry shows every field that is not an object. */
const tables: Readonly<Record<string, Omit<TableOptions, "now">>> = {
  agents: { columns: ["name", "status", "virtualIp", "lastSeenAt", "sentRevision", "appliedRevision", "id"] },
  gateways: { columns: ["name", "status", "publicIp", "listenPort", "lastSeenAt", "appliedRevision", "id"] },
  tunnels: {
    columns: ["domain", "name", "protocol", "listenPort", "target", "agent", "enabled", "status", "serving", "id"]
  },
  certificates: { columns: ["domain", "expiresAt", "source", "withheld", "updatedAt"] },
  clients: {
    columns: ["name", "clientType", "node", "address", "level", "since", "sentRevision", "appliedRevision", "clientId"]
  },
  audit: { columns: ["at", "actor", "address", "action", "name", "entityId", "revision"], hasExactTimes: true }
}

/** Fills the columns that the API has no text for: the agent's name, the reported status and the serving gateways. */
const withColumns = Effect.fnUntraced(function*(server: Server, group: string, items: unknown) {
  if (group !== "tunnels" || !isTunnels(items) || items.length === 0) return items
  const agents = yield* listItems(server, { method: "GET", path: "/api/agents", query: {} })
  const names = new Map(isAgents(agents) ? agents.map(({ id, name }) => [id, name]) : [])
  return items.map((tunnel) => ({
    ...tunnel,
    agent: names.get(tunnel.agentId) ?? tunnel.agentId,
    status: tunnel.reported?.status ?? null,
    serving: servingText(tunnel.serving ?? [])
  }))
})

const isTunnels = Schema.is(Schema.Array(Schema.Struct({
  agentId: Schema.String,
  reported: Schema.NullOr(Schema.Struct({ status: Schema.String })),
  serving: Schema.optionalKey(Schema.Array(Schema.Struct({ gatewayName: Schema.String, status: Schema.String })))
})))

/** `edge-1, edge-2: agent-unreachable`; null without reports. */
const servingText = (
  gateways: ReadonlyArray<{ readonly gatewayName: string; readonly status: string }>
): string | null =>
  gateways.map(({ gatewayName, status }) => status === "serving" ? gatewayName : `${gatewayName}: ${status}`)
    .join(", ") || null
const isAgents = Schema.is(Schema.Array(Schema.Struct({ id: Schema.String, name: Schema.String })))

export const performOperation = Effect.fnUntraced(
  function*(operation: Operation, values: InputValues, format: Format) {
    const server = yield* findServer
    const given = yield* Effect.forEach(operation.inputs, (input) => {
      const text = values[input.name] ?? Option.none<string>()
      return Option.isNone(text)
        ? Effect.succeed([])
        : Effect.map(valueOf(input, text.value), (value) => [{ input, value }])
    })
    const inputs = given.flat()
    const valuesIn = (location: Input["location"]) =>
      Object.fromEntries(
        inputs.filter(({ input }) => input.location === location).map(({ input, value }) => [input.name, value])
      )
    const path = Object.entries(valuesIn("path")).reduce(
      (path, [name, value]) => path.replace(`:${name}`, encodeURIComponent(String(value))),
      operation.path
    )
    const query = Object.fromEntries(Object.entries(valuesIn("query")).map(([name, value]) => [name, String(value)]))
    const hasBody = operation.inputs.some(({ location }) => location === "body")
    const request = { method: operation.method, path, query, ...hasBody ? { body: valuesIn("body") } : {} }
    if (operation.verb === "list") {
      const items = yield* listItems(server, request)
      const rows = format === "table" ? yield* withColumns(server, operation.group, items) : items
      return yield* print(format, rows, tables[operation.group])
    }
    const response = yield* requestJson(server, request)
    if (response !== undefined) {
      yield* print(format, format === "env" ? yield* withClientUrl(server, response) : response)
    }
    yield* failUnlessDelivered(response, query["wait"])
  }
)

/** Adds the URL that a new client connects to. A server of an earlier version does not know it. */
const withClientUrl = Effect.fnUntraced(function*(server: Server, created: unknown) {
  if (!isCreatedClient(created)) return created
  const network = yield* requestJson(server, { method: "GET", path: "/api/network", query: {} })
  return hasClientUrl(network) ? { ...created, clientUrl: network.clientUrl } : created
})

const isCreatedClient = Schema.is(Schema.Struct({ apiKey: Schema.String }))
const hasClientUrl = Schema.is(Schema.Struct({ clientUrl: Schema.String }))

const valueOf = (input: Input, given: string) =>
  Effect.gen(function*() {
    if (input.isNullable && given === "null") return null
    if (input.location === "path" && !/^(?!\.{1,2}$)[^/]+$/u.test(given))
      return yield* commandFailed(
        "usage",
        `an argument must not be empty, \`.\` or \`..\`, or contain \`/\`: ${JSON.stringify(given)}`
      )
    const text = isFileInput(input.name) ? yield* textOrFile(given) : given
    if (input.location !== "body") return text
    switch (input.type) {
      case "number":
        // The API rejects a text that is not a number, and names the field.
        return text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text)
      case "boolean":
        return text === "true"
      case "list":
        return text === "" ? [] : text.split(",")
      case "object":
        return yield* parseObject(input.name, text)
      case "string":
        return text
    }
  })

/** Only checks that the text is a JSON object; the API checks its fields. */
const parseObject = (name: string, text: string) =>
  decodeObject(text).pipe(
    Effect.mapError(() =>
      commandFailed("usage", `--${kebab(name)} must be a JSON object, such as '{"agents":["ID"]}', or @FILE`)
    )
  )

const decodeObject = Schema.decodeUnknownEffect(
  Schema.fromJsonString(Schema.NullOr(Schema.Record(Schema.String, Schema.Unknown)))
)

/** `@FILE` is read from the file, and `@@text` is `@text`. */
const textOrFile = (given: string) => {
  if (given.startsWith("@@")) return Effect.succeed(given.slice(1))
  return given.startsWith("@") ? readText(given.slice(1)) : Effect.succeed(given)
}

const readText = (path: string) =>
  Effect.tryPromise({
    try: () => readFile(path, "utf8"),
    catch: (error) =>
      commandFailed("usage", `cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`)
  })

interface Page {
  readonly items: ReadonlyArray<unknown>
  readonly nextCursor?: unknown
}

const isPage = (value: unknown): value is Page =>
  typeof value === "object" && value !== null && "items" in value && Array.isArray(value.items)

const unreadableRowsOf = (page: Page): ReadonlyArray<typeof UnreadableRow.Type> =>
  Option.getOrElse(Option.map(decodeUnreadable(page), ({ unreadable }) => unreadable), () => [])
const decodeUnreadable = Schema.decodeUnknownOption(Schema.Struct({ unreadable: Schema.Array(UnreadableRow) }))

/** Returns the items of every page; of one page only if `--limit` is given. */
const listItems = Effect.fnUntraced(function*(
  server: Server,
  request: { readonly method: string; readonly path: string; readonly query: Readonly<Record<string, string>> }
) {
  const items: Array<unknown> = []
  let cursor: Readonly<Record<string, string>> = {}
  while (true) {
    const page = yield* requestJson(server, { ...request, query: { ...request.query, ...cursor } })
    if (!isPage(page)) return page
    items.push(...page.items)
    for (const { entityId, entityType, reason } of unreadableRowsOf(page)) {
      yield* Console.error(replaceControlCharacters(`control: ${entityType} ${entityId} cannot be read: ${reason}`))
    }
    if (typeof page.nextCursor !== "string" || request.query["limit"] !== undefined) return items
    cursor = { cursor: page.nextCursor }
  }
})

/** Fails if `--wait` was given and the saved change is not delivered everywhere, so that a script cannot overlook it. */
const failUnlessDelivered = (response: unknown, wait: string | undefined) => {
  if (wait === undefined || typeof response !== "object" || response === null || !("delivery" in response))
    return Effect.void
  const { nacks, pending, serving = [] } = response.delivery as {
    readonly serving?: ReadonlyArray<{ readonly status: string | null }>
    readonly pending?: ReadonlyArray<unknown>
    readonly nacks?: ReadonlyArray<unknown>
  }
  if (nacks !== undefined && nacks.length > 0) {
    return Effect.fail(commandFailed("failed", `saved, but rejected by ${clients(nacks.length)}; see control doctor`))
  }
  const unserved = serving.filter(({ status }) => status !== "serving").length
  if ((pending?.length ?? 0) === 0 && unserved > 0) {
    const gateways = unserved === 1 ? "1 gateway" : `${unserved} gateways`
    return Effect.fail(commandFailed("timedOut", `saved, but not served by ${gateways} before the timeout`))
  }
  return pending !== undefined && pending.length > 0
    ? Effect.fail(
      commandFailed(
        "timedOut",
        `saved, but not ${wait === "sent" ? "sent to" : "applied by"} ${clients(pending.length)} before the timeout`
      )
    )
    : Effect.void
}

const clients = (count: number): string => count === 1 ? "1 client" : `${count} clients`
