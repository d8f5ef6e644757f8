/** A command for each noun of the API and each of its verbs. */
import { LeftOut } from "#schema/resources.ts"
import { Console, Effect, Option, Schema, Stdio, Stream } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { readFile } from "node:fs/promises"
import { type CommandFailed, fail } from "./CommandFailed.ts"
import { type Input, kebab, type Operation, operations } from "./operations.ts"
import { type Format, formats, render, visible } from "./output.ts"
import { ask, Asking, findServer, type Server } from "./apiClient.ts"

/** What a table shows of a list; of a group that is not here, whatever is short. */
const columns: Readonly<Record<string, ReadonlyArray<string>>> = {
  agents: ["id", "name", "virtualIp", "status", "lastSeenAt", "sentRevision", "appliedRevision"],
  gateways: ["id", "name", "publicIp", "listenPort", "status", "lastSeenAt", "sentRevision", "appliedRevision"],
  tunnels: ["id", "domain", "target", "agentId", "enabled", "revision", "reported"],
  certificates: ["domain", "expiresAt", "updatedAt"],
  clients: ["clientType", "clientId", "name", "node", "address", "level", "since", "sentRevision", "appliedRevision"],
  audit: ["at", "actor", "address", "action", "entityId", "revision"]
}

/** Groups that are commands of another form, or no commands at all; and the keys, which are one noun. */
const special: ReadonlySet<string> = new Set(["health", "events", "backup", "doctor", "agentKeys", "gatewayKeys"])

export const output = Flag.Literals("output", formats).pipe(
  Flag.withAlias("o"),
  Flag.withDescription("How to print data"),
  Flag.withDefault("table")
)

/** `agents` → `agent`, `masterKey` → `master-key` */
const nounOf = (group: string): string => kebab(group).replace(/s$/u, "")

export const nouns = () => {
  const all = operations()
  const groups = [...new Set(all.map(({ group }) => group))].filter((group) => !special.has(group))
  return [
    ...groups.map((group) => noun(nounOf(group), all.filter((operation) => operation.group === group).map(verb))),
    noun("key", keyVerbs(all))
  ]
}

const noun = <Input>(
  name: string,
  subcommands: ReadonlyArray<Command.Command<string, Input, {}, CommandFailed, Stdio.Stdio>>
) =>
  Command.make(name).pipe(
    Command.withDescription(
      `What can be done with ${
        /^(?:network|audit|master-key)$/u.test(name) ? `the ${name.replace("-", " ")}` : `each ${name}`
      }`
    ),
    Command.withSubcommands(subcommands)
  )

type Given = Readonly<Record<string, Option.Option<string>>>

const verb = (operation: Operation) =>
  Command.make(
    operation.verb,
    { ...inputsOf(operation.inputs), output },
    (given) => perform(operation, given as unknown as Given, given.output)
  ).pipe(Command.withDescription(operation.summary))

/** What is in the path stands after the verb, the rest are flags. */
const inputsOf = (inputs: ReadonlyArray<Input>) =>
  Object.fromEntries(inputs.map((input) => [input.name, input.place === "path" ? argument(input) : flag(input)]))

const argument = ({ description, name }: Input) =>
  Argument.String(kebab(name)).pipe(Argument.withDescription(description), Argument.map((value) => Option.some(value)))

const flag = ({ choices, description, isRequired, name, type }: Input) => {
  const base = choices.length > 0
    ? Flag.Literals(kebab(name), choices)
    : type === "boolean"
    ? Flag.map(Flag.Boolean(kebab(name)), String)
    : Flag.String(kebab(name))
  const form = type === "object"
    ? " (JSON, or @FILE)"
    : type === "string" && choices.length === 0
    ? " (@FILE reads it)"
    : ""
  const described = base.pipe(Flag.withDescription(`${description}${form}`))
  return isRequired ? Flag.map(described, (value) => Option.some(value)) : Flag.optional(described)
}

/** The keys of an agent and those of a gateway are asked for alike: `--agent ID` or `--gateway ID` says whose. */
const keyVerbs = (all: ReadonlyArray<Operation>) =>
  all.filter(({ group }) => group === "agentKeys").map((ofAgents) => {
    const owners = {
      agent: Flag.optional(Flag.String("agent").pipe(Flag.withDescription("The id of the agent whose key it is"))),
      gateway: Flag.optional(Flag.String("gateway").pipe(Flag.withDescription("The id of the gateway whose key it is")))
    }
    const inputs = inputsOf(ofAgents.inputs.filter(({ name }) => name !== "id"))
    return Command.make(ofAgents.verb, { ...inputs, ...owners, output }, (given) => {
      const group = Option.isSome(given.agent) ? "agentKeys" : "gatewayKeys"
      const operation = all.find((one) => one.group === group && one.verb === ofAgents.verb) ?? ofAgents
      const id = Option.orElse(given.agent, () => given.gateway)
      return Option.isSome(given.agent) === Option.isSome(given.gateway)
        ? Effect.fail(fail("usage", "say whose key it is: either --agent ID or --gateway ID"))
        : perform(operation, { ...given as unknown as Given, id }, given.output)
    }).pipe(Command.withDescription(ofAgents.summary.replace("its", "the")))
  })

const perform = Effect.fnUntraced(
  function*(operation: Operation, given: Given, format: Format) {
    const server = yield* findServer
    const said = yield* Effect.forEach(operation.inputs, (input) => {
      const value = given[input.name] ?? Option.none<string>()
      return Option.isNone(value)
        ? Effect.succeed([])
        : Effect.map(valueOf(input, value.value), (value) => [{ input, value }])
    })
    const inputs = said.flat()
    const of = (place: Input["place"]) =>
      Object.fromEntries(
        inputs.filter(({ input }) => input.place === place).map(({ input, value }) => [input.name, value])
      )
    const path = Object.entries(of("path")).reduce(
      (path, [name, value]) => path.replace(`{${name}}`, encodeURIComponent(String(value))),
      operation.path
    )
    const query = Object.fromEntries(Object.entries(of("query")).map(([name, value]) => [name, String(value)]))
    const hasBody = operation.inputs.some(({ place }) => place === "body")
    const question = { method: operation.method, path, query, ...hasBody ? { body: of("body") } : {} }
    if (operation.verb === "list")
      return yield* print(format, yield* everyPage(server, question), columns[operation.group])
    const answer = yield* ask(server, question)
    if (answer !== undefined) yield* print(format, answer)
    yield* judge(answer, query["wait"])
  },
  Effect.provide(Asking)
)

const valueOf = (input: Input, said: string) =>
  Effect.gen(function*() {
    if (input.isNullable && said === "null") return null
    const isRead = (input.type === "string" || input.type === "object") && said.startsWith("@")
    const text = isRead ? yield* fileText(said.slice(1)) : said
    if (input.place !== "body") return text
    switch (input.type) {
      case "number":
        return text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text)
      case "boolean":
        return text === "true"
      case "list":
        return text === "" ? [] : text.split(",")
      case "object":
        return yield* objectIn(input.name, text)
      case "string":
        return text
    }
  })

/** What its fields may be is for the API to say. */
const objectIn = (name: string, text: string) =>
  decodeObject(text).pipe(
    Effect.mapError(() =>
      fail("usage", `--${kebab(name)} must be a JSON object, such as '{"agents":["ID"]}', or @FILE`)
    )
  )

const decodeObject = Schema.decodeUnknownEffect(
  Schema.fromJsonString(Schema.NullOr(Schema.Record(Schema.String, Schema.Unknown)))
)

const fileText = (path: string) =>
  Effect.tryPromise({ try: () => readFile(path, "utf8"), catch: () => fail("usage", `${path} cannot be read`) })

interface Page {
  readonly items: ReadonlyArray<unknown>
  readonly nextCursor?: unknown
}

const isPage = (value: unknown): value is Page =>
  typeof value === "object" && value !== null && "items" in value && Array.isArray(value.items)

const leftOutOf = (page: Page): ReadonlyArray<typeof LeftOut.Type> =>
  Option.getOrElse(Option.map(decodeLeftOut(page), ({ leftOut }) => leftOut), () => [])
const decodeLeftOut = Schema.decodeUnknownOption(Schema.Struct({ leftOut: Schema.Array(LeftOut) }))

/** A list is given whole, unless somebody has said how much of it. */
const everyPage = Effect.fnUntraced(function*(
  server: Server,
  question: { readonly method: string; readonly path: string; readonly query: Readonly<Record<string, string>> }
) {
  const items: Array<unknown> = []
  let cursor: Readonly<Record<string, string>> = {}
  while (true) {
    const page = yield* ask(server, { ...question, query: { ...question.query, ...cursor } })
    if (!isPage(page)) return page
    items.push(...page.items)
    for (const { entityId, entityType, reason } of leftOutOf(page)) {
      yield* Console.error(visible(`control: ${entityType} ${entityId} is left out: ${reason}`))
    }
    if (typeof page.nextCursor !== "string" || question.query["limit"] !== undefined) return items
    cursor = { cursor: page.nextCursor }
  }
})

/** What was committed and is not in force everywhere yet is told by the exit code: who waits must not overlook it. */
const judge = (answer: unknown, wait: string | undefined) => {
  if (wait === undefined || typeof answer !== "object" || answer === null || !("delivery" in answer)) return Effect.void
  const { nacks, pending } = answer.delivery as {
    readonly pending?: ReadonlyArray<unknown>
    readonly nacks?: ReadonlyArray<unknown>
  }
  if (nacks !== undefined && nacks.length > 0) {
    return Effect.fail(fail("failed", `it is stored, but ${nacks.length} of the clients could not apply it`))
  }
  return pending !== undefined && pending.length > 0
    ? Effect.fail(fail("timedOut", `it is stored, but ${pending.length} of the clients did not have it in time`))
    : Effect.void
}

/** All of it, or none: a pipe that is full is waited for. */
export const print = Effect.fnUntraced(function*(format: Format, data: unknown, columns?: ReadonlyArray<string>) {
  const stdio = yield* Stdio.Stdio
  yield* Effect.orDie(Stream.run(Stream.make(render(format, data, columns)), stdio.stdout()))
  if (format === "table" && Array.isArray(data) && data.length === 0) yield* Console.error("control: there are none")
})
