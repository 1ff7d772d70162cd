`timescale 1 ns / 1 ps

// The last BEATS beats side by side, the oldest in the least significant bits.
module collect #(
    parameter WIDTH = 8,
    parameter BEATS = 1
) (
    input clk,
    input valid,
    input [WIDTH-1:0] data_in,
    output [BEATS*WIDTH-1:0] data_out
);
    generate
        if (BEATS == 1) begin : single
            assign data_out = data_in;
        end else begin : several
            reg [(BEATS-1)*WIDTH-1:0] earlier;
            assign data_out = {data_in, earlier};
            always @(posedge clk) if (valid) earlier <= data_out[BEATS*WIDTH-1:WIDTH];
        end
    endgenerate
endmodule
