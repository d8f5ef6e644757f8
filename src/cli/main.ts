/** The command line: `control <noun> <verb>`. Data goes to standard output, words to standard error, and the exit code says which. */
import packageJson from "#package.json" with { type: "json" }
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Cause, Console, Effect, Exit, type Runtime } from "effect"
import { Argument, CliError, Command, Flag } from "effect/cli"
import { events } from "./events.ts"
import { CommandFailed, exitCodes, fail } from "./CommandFailed.ts"
import { nouns, output, print } from "./resourceCommands.ts"
import { visible } from "./output.ts"
import { Asking } from "./apiClient.ts"

const file = Argument.String("file").pipe(Argument.withDescription("The backup file"))

/** What works on the database itself is loaded only for who needs it: the others answer sooner. */
const backups = Effect.promise(() => import("./backups.ts"))
const doctor = Effect.promise(() => import("./doctor.ts"))

const backupCommand = Command.make("backup", { file, output }, ({ file, output }) =>
  backups.pipe(
    Effect.flatMap(({ backup }) => backup(file)),
    Effect.flatMap((done) => print(output, done))
  )).pipe(
    Command.withDescription("Write all that cannot be made anew into a file; with a running server, or without one")
  )

const restoreCommand = Command.make("restore", {
  file,
  replace: Flag.Boolean("replace").pipe(
    Flag.withDescription("Discard what is in the database now"),
    Flag.withDefault(false)
  ),
  yes: Flag.Boolean("yes").pipe(Flag.withAlias("y"), Flag.withDescription("Do not ask"), Flag.withDefault(false)),
  output
}, ({ file, output, ...options }) =>
  backups.pipe(
    Effect.flatMap(({ restore }) => restore(file, options)),
    Effect.flatMap((done) => print(output, done))
  )).pipe(
    Command.withDescription(
      "Put a backup into the database of DATABASE_URL, or into the embedded one of a stopped server"
    )
  )

const doctorCommand = Command.make("doctor", { output }, ({ output }) =>
  Effect.gen(function*() {
    const { describe, examine, isWell } = yield* doctor
    const found = yield* examine
    yield* print(output, describe(output, found))
    if (!isWell(found)) return yield* fail("failed", "something does not work")
  }).pipe(Effect.provide(Asking))).pipe(Command.withDescription("Say what is wrong, why it matters, and what to do"))

/** These two are programs of their own, which `bin/control.mjs` starts: here only for the help. */
const elsewhere = (name: string, description: string) =>
  Command.make(name, {}, () => Effect.fail(fail("usage", `control ${name} takes no arguments`))).pipe(
    Command.withDescription(description)
  )

const control = Command.make("control").pipe(
  Command.withDescription(
    "Operates Control. CONTROL_API_URL and CONTROL_ADMIN_TOKEN[_FILE] say which; on its own machine it is found"
  ),
  Command.withSubcommands([
    ...nouns(),
    events,
    backupCommand,
    restoreCommand,
    doctorCommand,
    elsewhere("start", "Run the server"),
    elsewhere("demo", "Show everything at work")
  ])
)

/** A PEM begins with dashes: it would be taken for a flag, and the complaint about an unknown flag quotes it. */
const noPemInSight = Effect.suspend(() =>
  process.argv.some((word) => word.startsWith("-----BEGIN"))
    ? Effect.fail(fail("usage", "give a PEM as @FILE: anybody on this machine can read a command line"))
    : Effect.void
)

const main = noPemInSight.pipe(
  Effect.andThen(Command.run(control, { version: packageJson.version })),
  Effect.tapCause((cause) => {
    const error = Cause.squash(cause)
    if (Cause.hasInterruptsOnly(cause) || CliError.isCliError(error)) return Effect.void
    return Console.error(error instanceof CommandFailed ? `control: ${visible(error.message)}` : Cause.pretty(cause))
  }),
  Effect.provide(NodeServices.layer)
)

const codeOf = (cause: Cause.Cause<unknown>): number => {
  const error = Cause.squash(cause)
  if (error instanceof CommandFailed) return exitCodes[error.kind]
  return CliError.isCliError(error) ? exitCodes.usage : exitCodes.failed
}

/** Who ends a command that follows something has seen enough. */
const teardown: Runtime.Teardown = (exit, onExit) =>
  onExit(Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) ? 0 : codeOf(exit.cause))

NodeRuntime.runMain(main, { disableErrorReporting: true, teardown })
