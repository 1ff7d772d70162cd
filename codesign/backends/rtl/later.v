`timescale 1 ns / 1 ps

// LATENCY cycles later, what stays the same from the first beat of a sample on, for BEATS cycles at least.
//
// A pipeline would keep a copy in each of its LATENCY registers. Here one bank of registers takes it over when it is due,
// and one more for each BEATS cycles of the latency, so that each does so before its source changes.
module later #(
    parameter WIDTH = 8,
    parameter LATENCY = 1,
    parameter BEATS = 1
) (
    input clk,
    input resetn,
    input valid,
    input [WIDTH-1:0] data_in,
    output [WIDTH-1:0] data_out
);
    localparam BANKS = (LATENCY + BEATS - 1) / BEATS;

    wire is_first, is_last;
    wire [LATENCY-1:0] begun;  // whether a sample began so many cycles ago
    wire [(BANKS+1)*WIDTH-1:0] passed;

    beat_counter #(.BEATS(BEATS)) beats (
        .clk(clk), .resetn(resetn), .valid(valid), .is_first(is_first), .is_last(is_last)
    );

    assign passed[0 +: WIDTH] = data_in;
    assign data_out = passed[BANKS*WIDTH +: WIDTH];

    genvar i;
    generate
        if (LATENCY == 1) begin : single
            assign begun = valid && is_first;
        end else begin : several
            reg [LATENCY-2:0] earlier;
            assign begun = {earlier, valid && is_first};
            always @(posedge clk) earlier <= resetn ? begun : 0;
        end
        for (i = 1; i <= BANKS; i = i + 1) begin : banks
            localparam DELAY = i == BANKS ? LATENCY : i * BEATS;
            reg [WIDTH-1:0] kept;
            assign passed[i*WIDTH +: WIDTH] = kept;
            always @(posedge clk) if (begun[DELAY-1]) kept <= passed[(i-1)*WIDTH +: WIDTH];
        end
    endgenerate
endmodule
