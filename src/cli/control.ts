/** The command `control`: its subcommands, its error output and its exit codes. */
import packageJson from "#package.json" with { type: "json" }
import { Cause, Console, Effect, Exit, Layer } from "effect"
import { Argument, CliError, CliOutput, Command, Flag } from "effect/cli"
import { CommandFailed, commandFailed, exitCodes } from "./CommandFailed.ts"
import { checkCommand } from "./check/checkCommand.ts"
import { eventsCommand } from "./events.ts"
import { exposeCommand } from "./expose.ts"
import { replaceControlCharacters } from "./valueText.ts"
import { output, print } from "./print.ts"
import { resourceCommands } from "./resourceCommands.ts"

/** Modules that open the database. Loaded only by the commands that need them, which saves the others 0.3 s. */
const loadBackups = Effect.promise(() => import("./backups.ts"))
const loadDoctor = Effect.promise(() => import("./doctor.ts"))

const backupFile = (description: string) => Argument.String("file").pipe(Argument.withDescription(description))

const backupCommand = Command.make("backup", {
  file: backupFile("Path of the new backup file, for example control.backup"),
  output
}, ({ file, output }) =>
  loadBackups.pipe(
    Effect.flatMap(({ backup }) => backup(file)),
    Effect.flatMap((summary) => print(output, summary))
  )).pipe(
    Command.withDescription("Back up all data to a file, through a running server or directly from the database"),
    Command.withExamples([{ command: "control backup control.backup" }])
  )

const restoreCommand = Command.make("restore", {
  file: backupFile("Path of the backup file, for example control.backup"),
  acceptUnsigned: Flag.Boolean("accept-unsigned").pipe(
    Flag.withDescription(
      "Restore a file without a signature, which can include API keys and admin tokens of a stranger"
    ),
    Flag.withDefault(false)
  ),
  replace: Flag.Boolean("replace").pipe(
    Flag.withDescription("Discard the data that the database has now"),
    Flag.withDefault(false)
  ),
  yes: Flag.Boolean("yes").pipe(
    Flag.withAlias("y"),
    Flag.withDescription("Skip the confirmation of --replace"),
    Flag.withDefault(false)
  ),
  output
}, ({ file, output, ...options }) =>
  loadBackups.pipe(
    Effect.flatMap(({ restore }) => restore(file, options)),
    Effect.flatMap((summary) => print(output, summary))
  )).pipe(
    Command.withDescription(
      "Restore a backup into the database of DATABASE_URL, or into the embedded database of a stopped server"
    ),
    Command.withExamples([{ command: "control restore control.backup --replace" }])
  )

const doctorCommand = Command.make("doctor", { output }, ({ output }) =>
  Effect.gen(function*() {
    const { examine, formatDiagnosis, isHealthy } = yield* loadDoctor
    const diagnosis = yield* examine
    yield* print(output, formatDiagnosis(output, diagnosis))
    if (!isHealthy(diagnosis)) return yield* commandFailed("failed", "at least one check failed")
  })).pipe(
    Command.withDescription("Check the server, its database and its settings, and name the remedy of each problem"),
    Command.withExamples([{ command: "control doctor" }])
  )

/** `bin/control.mjs` starts these programs itself; the commands exist only for the help. */
const separateProgram = (name: string, description: string) =>
  Command.make(name, {}, () => Effect.fail(commandFailed("usage", `control ${name} takes no arguments`))).pipe(
    Command.withDescription(description),
    Command.withExamples([{ command: `control ${name}` }])
  )

export const control = Command.make("control").pipe(
  Command.withDescription(
    "Manage a Control server. Set CONTROL_API_URL and CONTROL_ADMIN_TOKEN (or CONTROL_ADMIN_TOKEN_FILE); on the " +
      "server's machine both are detected. Agents and gateways are given by name or id, tunnels by domain or id. Options with @FILE read a file. Exit codes: 0 success, " +
      "1 failure, 2 usage error, 3 not found, 4 unauthorized, 5 server unreachable, 6 saved, but not applied everywhere " +
      "before the timeout, 8 a broken link found by check"
  ),
  Command.withShortDescription("Manage a Control server"),
  Command.withExamples([{ command: "control agent create home" }, { command: "control doctor" }]),
  Command.withSubcommands([
    exposeCommand,
    checkCommand,
    ...resourceCommands(),
    eventsCommand,
    backupCommand,
    restoreCommand,
    doctorCommand,
    separateProgram("start", "Run the server in the foreground"),
    separateProgram("demo", "Run a server with two agents and two gateways, and show their messages")
  ])
)

/** A PEM begins with dashes, so that the parser would quote the private key in an error about an unknown option. */
const rejectPem = (args: ReadonlyArray<string>) =>
  args.some((word) => word.startsWith("-----BEGIN"))
    ? Effect.fail(
      commandFailed("usage", "pass a PEM as @FILE, because other users of this machine can read a command line")
    )
    : Effect.void

/** One sentence about a command line that cannot be understood, in place of the whole help. */
const invocationText = ({ commandPath, errors }: CliOutput.Presenter.InvalidInvocation): string => {
  const command = commandPath.join(" ")
  return `control: ${replaceControlCharacters(errors.map(textOfError).join("; "))}; see ${command} --help`
}

const textOfError = (error: CliError.NonShowHelpErrors): string => {
  const suggestion = "suggestions" in error && error.suggestions.length > 0
    ? `; did you mean ${error.suggestions.join(" or ")}?`
    : ""
  switch (error._tag) {
    case "UnrecognizedOption":
      return `there is no option ${error.option}${suggestion}`
    case "UnknownSubcommand":
      return `there is no command ${[...error.parent ?? [], error.subcommand].join(" ")}${suggestion}`
    case "MissingOption":
      return `the option --${error.option} is missing`
    case "MissingArgument":
      return `the argument ${error.argument} is missing`
    case "UnexpectedArgument":
      return `unexpected: ${error.arguments.join(" ")}`
    default:
      return error.message
  }
}

/** Help and version go to the presenter that is already there. */
const shortErrors = Layer.effect(
  CliOutput.Presenter,
  Effect.map(CliOutput.Presenter, ({ present }) => ({
    present: (event: CliOutput.Presenter.Event) =>
      event._tag === "InvalidInvocation" ? Console.error(invocationText(event)) : present(event)
  }))
)

/** Runs `control` with these arguments. Prints a failure on standard error before it fails. */
export const runControl = (args: ReadonlyArray<string>) =>
  rejectPem(args).pipe(
    Effect.andThen(Command.runWith(control, { version: packageJson.version })(args)),
    Effect.provide(shortErrors),
    Effect.tapCause((cause) => {
      const error = Cause.squash(cause)
      if (Cause.hasInterruptsOnly(cause) || CliError.isCliError(error)) return Effect.void
      return Console.error(
        error instanceof CommandFailed ? `control: ${replaceControlCharacters(error.message)}` : Cause.pretty(cause)
      )
    })
  )

/** Interrupting a command that follows events is its normal end. */
export const exitCodeOf = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return 0
  const error = Cause.squash(exit.cause)
  if (error instanceof CommandFailed) return exitCodes[error.kind]
  return CliError.isCliError(error) ? exitCodes.usage : exitCodes.failed
}
