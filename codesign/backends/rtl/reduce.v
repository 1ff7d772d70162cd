`timescale 1 ns / 1 ps

// Sum or maximum of all beats since the first one, this one included.
module reduce #(
    parameter WIDTH = 8,    // bits of a beat
    parameter RESULT = 8,   // bits of the result
    parameter IS_SIGNED = 0,
    parameter IS_MAX = 0
) (
    input clk,
    input valid,
    input is_first,
    input [WIDTH-1:0] data_in,
    output [RESULT-1:0] data_out
);
    reg [RESULT-1:0] earlier;
    wire [RESULT-1:0] x;
    generate
        if (IS_SIGNED) begin : extend
            wire signed [WIDTH-1:0] number = data_in;
            assign x = number;
        end else begin : pad
            assign x = data_in;
        end
    endgenerate
    wire is_greater = IS_SIGNED ? $signed(x) > $signed(earlier) : x > earlier;
    assign data_out = is_first ? x : IS_MAX ? (is_greater ? x : earlier) : earlier + x;
    always @(posedge clk) if (valid) earlier <= data_out;
endmodule
