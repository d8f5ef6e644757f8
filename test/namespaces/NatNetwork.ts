/** Control, a gateway and an agent as programs in network namespaces, with the agent behind a real NAT. */
import { control, Program } from "#support/programProcesses.ts"
import { issueCertificate } from "#support/certificates.ts"
import { createHash } from "node:crypto"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { edgeAddress, Namespaces } from "./Namespaces.ts"

const visitorProgram = fileURLToPath(new URL("./visitor.ts", import.meta.url))
const serviceProgram = fileURLToPath(new URL("./service.ts", import.meta.url))

export type DeviceKind = "kernel" | "userspace"

export interface NatNetworkOptions {
  readonly gateway: DeviceKind
  readonly agent: DeviceKind
  /** Address to which the agent sends WireGuard. */
  readonly publicIp?: string
}

/** The line that the visitor's program prints for this many bytes each way. */
export const expectedAnswer = (bytes: number): string =>
  `200 ${createHash("sha256").update(bytes === 0 ? "hello from home" : Buffer.alloc(bytes, 7)).digest("hex")}`

export class NatNetwork implements AsyncDisposable {
  readonly namespaces: Namespaces
  readonly certificate: string
  readonly #options: NatNetworkOptions
  readonly #directory: string
  readonly #programs: Array<Program> = []

  private constructor(options: NatNetworkOptions, directory: string, prefix: string) {
    this.#options = options
    this.#directory = directory
    this.certificate = join(directory, "certificate.pem")
    this.namespaces = new Namespaces(`${prefix}-${process.pid}`)
  }

  /** Starts Control and the services at home. `prefix`: begins with `cw`, unique in the tests. */
  static async open(prefix: string, options: NatNetworkOptions): Promise<NatNetwork> {
    const network = new NatNetwork(options, await mkdtemp(join(tmpdir(), "control-namespaces-")), prefix)
    try {
      await network.start("edge", "src/server/main.ts").line("serving agents and gateways")
      const gateway = ["gateway", "create", "edge", "--public-ip", options.publicIp ?? edgeAddress, "-o", "env"]
      await writeFile(join(network.#directory, "edge.env"), await network.control(...gateway))
      const agent = await network.control("agent", "create", "home", "-o", "env")
      await writeFile(join(network.#directory, "home.env"), agent)
      await network.start("home", serviceProgram).line("listening")
      return network
    } catch (error) {
      await network[Symbol.asyncDispose]()
      throw error
    }
  }

  start(namespace: string, file: string, ...args: ReadonlyArray<string>): Program {
    const program = new Program(file, args, this.#environment, this.namespaces.name(namespace))
    this.#programs.push(program)
    return program
  }

  /** Runs `control` at the edge. */
  control(...words: ReadonlyArray<string>): Promise<string> {
    return control(words, this.#environment, this.namespaces.name("edge"))
  }

  async startGateway(): Promise<Program> {
    const files = ["--env-file", join(this.#directory, "edge.env"), "--state-dir", join(this.#directory, "edge")]
    const options = ["--device", this.#options.gateway, "--drain-timeout", "1s"]
    const gateway = this.start("edge", "src/gateway/main.ts", ...files, ...options)
    await gateway.line("WireGuard is up")
    return gateway
  }

  async startAgent(): Promise<Program> {
    const files = ["--env-file", join(this.#directory, "home.env"), "--state-dir", join(this.#directory, "home")]
    const options = ["--device", this.#options.agent, "--drain-timeout", "1s"]
    const agent = this.start("home", "src/agent/main.ts", ...files, ...options)
    await agent.line("WireGuard is up")
    return agent
  }

  /** Uploads a certificate of the domain, whose file is `certificate`. */
  async uploadCertificate(domain: string): Promise<void> {
    const { certificate, privateKey } = issueCertificate({ names: [domain] })
    const key = join(this.#directory, "key.pem")
    await writeFile(this.certificate, certificate)
    await writeFile(key, privateKey, { mode: 0o600 })
    const files = ["--certificate", `@${this.certificate}`, "--private-key", `@${key}`]
    await this.control("certificate", "create", domain, ...files, "--wait", "applied")
  }

  /** Runs the visitor's program in a namespace. Returns the line that it prints. */
  visit(namespace: string, ...words: ReadonlyArray<string | number>): string {
    return this.namespaces.exec(namespace, process.execPath, visitorProgram, ...words.map(String)).trim()
  }

  /** Sends this many bytes over HTTP, and returns the status and the hash of as many bytes that come back. */
  ask(bytes: number): string {
    return this.visit("edge", "http", edgeAddress, bytes)
  }

  /** Asks until the service answers. Returns the milliseconds since the fault at `from`, and throws after 60 s. */
  millisUntilServed(from: number): number {
    const printed = this.visit("edge", "until", edgeAddress, from)
    if (!/^\d+$/u.test(printed)) throw new Error(printed)
    return Number(printed)
  }

  /** Interfaces, rules and wireguard-go of kernel devices that exist at the machine. */
  leftovers(namespace: string): ReadonlyArray<string> {
    const { namespaces } = this
    return [
      ...namespaces.exec(namespace, "ip", "-br", "link").match(/^ctl\w+/gmu) ?? [],
      ...namespaces.exec(namespace, "nft", "list", "tables").match(/table inet ctl\w+/gu) ?? [],
      ...namespaces.pids(namespace, "wireguard-go").map(() => "wireguard-go")
    ]
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.stop()))
    this.namespaces.remove()
    await rm(this.#directory, { recursive: true, force: true })
  }

  get #environment() {
    return {
      CONTROL_DATA_DIR: join(this.#directory, "data"),
      CONTROL_WS_HOST: edgeAddress,
      CONTROL_API_PORT: "0"
    }
  }
}
