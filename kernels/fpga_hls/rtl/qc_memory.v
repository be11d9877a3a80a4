// Memories: a ROM from a file, and a RAM with one write and one read port. Both answer one clock after the address.
// BLOCK chooses block RAM; otherwise LUTs hold them.

module qc_rom #(parameter W = 8, parameter D = 16, parameter BLOCK = 0, parameter FILE = "") (
  input clk,
  input [(D > 1 ? $clog2(D) : 1)-1:0] addr,
  output reg [W-1:0] data
);
  generate
    if (BLOCK) begin : block
      (* rom_style = "block", ram_style = "block", syn_romstyle = "EBR" *) reg [W-1:0] mem [0:D-1];
      initial $readmemh(FILE, mem);
      always @(posedge clk) data <= mem[addr];
    end else begin : luts
      (* logic_block *) reg [W-1:0] mem [0:D-1];
      initial $readmemh(FILE, mem);
      always @(posedge clk) data <= mem[addr];
    end
  endgenerate
endmodule

module qc_ram #(parameter W = 8, parameter D = 16, parameter BLOCK = 0) (
  input clk,
  input we,
  input [(D > 1 ? $clog2(D) : 1)-1:0] waddr,
  input [W-1:0] wdata,
  input [(D > 1 ? $clog2(D) : 1)-1:0] raddr,
  output reg [W-1:0] rdata
);
  generate
    if (BLOCK) begin : block
      (* ram_style = "block", syn_ramstyle = "block_ram" *) reg [W-1:0] mem [0:D-1];
      always @(posedge clk) if (we) mem[waddr] <= wdata;
      always @(posedge clk) rdata <= mem[raddr];
    end else begin : luts
      (* ram_style = "distributed", syn_ramstyle = "distributed" *) reg [W-1:0] mem [0:D-1];
      always @(posedge clk) if (we) mem[waddr] <= wdata;
      always @(posedge clk) rdata <= mem[raddr];
    end
  endgenerate
endmodule
