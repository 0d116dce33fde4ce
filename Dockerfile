# condinst for the CPU: docker build -t condinst .
FROM python:3.12-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE constraints.txt ./
# The CPU build of PyTorch comes first, from the address that pytorch.org names; condinst then keeps it.
RUN grep -E '^torch(vision)?==' constraints.txt > torch.txt \
    && pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu -r torch.txt
COPY src ./src
# Optional parts, for example: --build-arg EXTRAS="[serve]"
ARG EXTRAS=""
RUN pip install --no-cache-dir -c constraints.txt ".$EXTRAS" && rm -rf /src

RUN useradd --create-home --uid 1000 condinst
USER 1000
WORKDIR /data
ENTRYPOINT ["condinst"]
CMD ["--help"]
