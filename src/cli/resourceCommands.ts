/** Commands for the resources of the API, such as `control agent list`. */
import { Effect, Option, type Stdio } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { type CommandFailed, commandFailed } from "./CommandFailed.ts"
import { commandHelp, groupHelp, inputHelp, isFileInput } from "./help.ts"
import { type Input, kebab, type Operation, operations } from "./operations.ts"
import { type InputValues, performOperation } from "./performOperation.ts"
import { output, outputOfSecret } from "./print.ts"

/** API groups without a command of this form. API keys have their own form, because one command serves both owners. */
const excludedGroups: ReadonlySet<string> = new Set([
  "health",
  "events",
  "backup",
  "doctor",
  "agentKeys",
  "gatewayKeys"
])

/** `agents` → `agent`, `masterKey` → `master-key` */
const nounOf = (group: string): string => kebab(group).replace(/s$/u, "")

/** One command for each group of the API, so that a new group needs only its texts in `help.ts`. */
export const resourceCommands = () => {
  const all = operations()
  const groups = [...new Set(all.map(({ group }) => group))].filter((group) => !excludedGroups.has(group))
  return [
    ...groups.map((group) => {
      const noun = nounOf(group)
      const ofGroup = all.filter((operation) => operation.group === group)
      const commands = ofGroup.map((operation) => operationCommand(noun, operation))
      return resourceCommand(noun, hasProgram(noun) ? [...commands, programCommand(noun)] : commands)
    }),
    resourceCommand("key", keyCommands(all))
  ]
}

const envFile = Flag.optional(
  Flag.String("env-file").pipe(
    Flag.withMetavar("FILE"),
    Flag.withDescription("File with CONTROL_URL and CONTROL_API_KEY, as -o env prints them")
  )
)

const hasProgram = (noun: string): boolean => noun === "agent" || noun === "gateway"

/** `bin/control.mjs` starts the program itself; the command exists only for the help. */
const programCommand = (noun: string) =>
  Command.make(
    "run",
    { envFile },
    () => Effect.fail(commandFailed("usage", `start the program by \`control ${noun} run\`; --help shows its options`))
  ).pipe(
    Command.withDescription(commandHelp[`${noun} run`]?.description ?? ""),
    Command.withExamples(exampleOf(`${noun} run`))
  )

type ProgramCommand = ReturnType<typeof programCommand>

const resourceCommand = <Input>(
  noun: string,
  subcommands: ReadonlyArray<Command.Command<string, Input, {}, CommandFailed, Stdio.Stdio> | ProgramCommand>
) =>
  Command.make(noun).pipe(
    Command.withDescription(groupHelp[noun] ?? noun),
    Command.withExamples(exampleOf(`${noun} list`, `${noun} get`)),
    Command.withSubcommands(subcommands)
  )

/** The example of the first of these commands that has one. */
const exampleOf = (...commands: ReadonlyArray<string>): ReadonlyArray<Command.Command.Example> =>
  commands.flatMap((words) => commandHelp[words] ?? []).slice(0, 1).map(({ example }) => ({ command: example }))

const operationCommand = (noun: string, operation: Operation) => {
  const words = `${noun} ${operation.verb}`
  const format = secretCommands.has(words) ? outputOfSecret : output
  const command = namedCommands.has(words)
    ? Command.make(
      operation.verb,
      { ...paramsOf(words, operation.inputs.map(optionalName)), positionalName: nameArgument(words), output: format },
      ({ output, positionalName, ...values }) =>
        Effect.flatMap(
          nameOf(positionalName, values as unknown as InputValues),
          (name) =>
            performOperation(operation, { ...values as unknown as InputValues, name: Option.some(name) }, output)
        )
    )
    : Command.make(
      operation.verb,
      { ...paramsOf(words, operation.inputs), output: format },
      (values) => performOperation(operation, values as unknown as InputValues, values.output)
    )
  return command.pipe(
    Command.withDescription(commandHelp[words]?.description ?? operation.summary),
    Command.withExamples(exampleOf(words))
  )
}

/** Commands whose name is an argument. `--name` stays for scripts of earlier versions. */
const namedCommands: ReadonlySet<string> = new Set(["agent create", "gateway create"])

const optionalName = (input: Input): Input => input.name === "name" ? { ...input, isRequired: false } : input

const nameArgument = (words: string) =>
  Argument.optional(
    Argument.String("name").pipe(Argument.withDescription(inputHelp[`${words} name`] ?? inputHelp["name"] ?? ""))
  )

const nameOf = (argument: Option.Option<string>, { name: option = Option.none() }: InputValues) => {
  if (Option.isSome(argument) && Option.isSome(option)) {
    return Effect.fail(commandFailed("usage", "the name is given twice: as an argument and by --name"))
  }
  return Option.match(Option.orElse(argument, () => option), {
    onNone: () =>
      Effect.fail(commandFailed("usage", "the argument name is missing, for example home; --name sets it as well")),
    onSome: Effect.succeed
  })
}

/** Commands whose answer has a secret that is shown once. */
const secretCommands: ReadonlySet<string> = new Set(["agent create", "gateway create", "token create", "key create"])

/** Path parameters become arguments; all other inputs become options. `words` are those of the command, for the help. */
const paramsOf = (words: string, inputs: ReadonlyArray<Input>) =>
  Object.fromEntries(
    inputs.map((input) => [input.name, input.location === "path" ? argument(words, input) : option(words, input)])
  )

const helpOf = (words: string, { name }: Input): string => inputHelp[`${words} ${name}`] ?? inputHelp[name] ?? ""

const argument = (words: string, input: Input) =>
  Argument.String(input.name === "id" ? words.split(" ")[0] ?? "id" : kebab(input.name)).pipe(
    Argument.withDescription(helpOf(words, input)),
    Argument.map((value) => Option.some(value))
  )

const metavars: Readonly<Record<Input["type"], string>> = {
  string: "TEXT",
  number: "NUMBER",
  boolean: "BOOLEAN",
  list: "A,B,…",
  object: "JSON"
}

const option = (words: string, input: Input) => {
  const { choices, isRequired, type } = input
  const name = kebab(input.name === "agentId" ? "agent" : input.name)
  const plain = choices.length > 0
    ? Flag.Literals(name, choices)
    : type === "boolean"
    ? Flag.map(Flag.Boolean(name), String)
    : Flag.withMetavar(Flag.String(name), isFileInput(input.name) ? `${metavars[type]}|@FILE` : metavars[type])
  // The name of 0.2.0.
  const flag = input.name === "agentId" ? Flag.withAlias(plain, "agent-id") : plain
  const described = Flag.withDescription(flag, helpOf(words, input))
  return isRequired ? Flag.map(described, (value) => Option.some(value)) : Flag.optional(described)
}

const owners = {
  agent: Flag.optional(
    Flag.String("agent").pipe(Flag.withMetavar("AGENT"), Flag.withDescription(inputHelp["agent"] ?? ""))
  ),
  gateway: Flag.optional(
    Flag.String("gateway").pipe(Flag.withMetavar("GATEWAY"), Flag.withDescription(inputHelp["gateway"] ?? ""))
  )
}

/** `control key …`: the API has one group of operations for agents' keys and another one for gateways' keys. */
const keyCommands = (all: ReadonlyArray<Operation>) =>
  all.filter(({ group }) => group === "agentKeys").map((agentOperation) => {
    const words = `key ${agentOperation.verb}`
    const params = paramsOf(words, agentOperation.inputs.filter(({ name }) => name !== "id"))
    const format = secretCommands.has(words) ? outputOfSecret : output
    return Command.make(agentOperation.verb, { ...params, ...owners, output: format }, (values) => {
      const group = Option.isSome(values.agent) ? "agentKeys" : "gatewayKeys"
      const operation = all.find((other) => other.group === group && other.verb === agentOperation.verb) ??
        agentOperation
      const id = Option.orElse(values.agent, () => values.gateway)
      return Option.isSome(values.agent) === Option.isSome(values.gateway)
        ? Effect.fail(commandFailed("usage", "name the owner of the key: either --agent AGENT or --gateway GATEWAY"))
        : performOperation(operation, { ...values as unknown as InputValues, id }, values.output)
    }).pipe(
      Command.withDescription(commandHelp[words]?.description ?? agentOperation.summary),
      Command.withExamples(exampleOf(words))
    )
  })
