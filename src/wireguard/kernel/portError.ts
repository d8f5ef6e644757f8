/** Error of a port that the system refuses. */

/** A sentence with the remedy; keeps the `code`. */
export const portError = (
  protocol: string,
  port: number,
  address: string,
  { code, message }: NodeJS.ErrnoException
): NodeJS.ErrnoException =>
  Object.assign(
    new Error(
      code === "EADDRINUSE"
        ? `${protocol} port ${port} is in use by another program at ${address}; stop it, or use --device userspace`
        : `cannot open ${protocol} port ${port} at ${address}: ${message}`
    ),
    { code }
  )
