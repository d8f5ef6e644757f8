/** Reads the command line of a program: `--help` prints its help, and a mistake gets one sentence. */
import { parseArgs, type ParseArgsConfig } from "node:util"

const helpOption = { help: { type: "boolean", short: "h", default: false } } as const

/** Exits with 0 after `--help`, and with 2 after an unknown option. `help` ends without a line feed. */
export const readOptions = <const Config extends ParseArgsConfig>(
  help: string,
  config: Config
): ReturnType<typeof parseArgs<Config>> => {
  const parsed = parse(config)
  // Without the help, the values are those of `config`.
  if (parsed.values["help"] !== true) return parsed as unknown as ReturnType<typeof parseArgs<Config>>
  process.stdout.write(`${help}\n`)
  return process.exit(0)
}

function parse(config: ParseArgsConfig) {
  try {
    return parseArgs({ ...config, options: { ...config.options, ...helpOption } })
  } catch (error) {
    // The first sentence of Node names the option.
    const [sentence = ""] = (error instanceof Error ? error.message : String(error)).split(". ")
    process.stderr.write(`${sentence.replace(/\.$/u, "")}; --help lists the options\n`)
    return process.exit(2)
  }
}
